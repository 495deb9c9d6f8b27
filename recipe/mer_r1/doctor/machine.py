"""The machine: accelerators, memory, cores, shared memory, disk, loopback.

Preflight is imported where it is used: it imports torch, which may lack, and reads its environment when it is imported.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil

from recipe.mer_r1.doctor import driver, sources, weights
from recipe.mer_r1.doctor.outcome import INSTALL_GPU, Check, Outcome, Subject, failed, of_message, ok, warning
from recipe.mer_r1.run import machine as own_machine

GIB = 2**30
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
# A run of the tiny preset peaks at 12 GB, pages that its processes share counted in each; below 4, verl's, vLLM's and
# Ray's processes cannot even start.
COMFORTABLE_GIB, LEAST_GIB = 12, 4
# A checkpoint in fp32: the weights and Adam's two moments.
CHECKPOINT_BYTES_PER_PARAMETER = 12


def check_gpus(subject: Subject) -> Outcome:
    """As many CUDA devices as the preset has ranks on a node; if not, why."""
    if fault := own_machine.visible_devices_fault(os.environ):
        return failed(*fault)
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = [torch.cuda.get_device_properties(index) for index in range(count)]
    seen = ", ".join(f"{gpu.name} {gpu.total_memory / GIB:.0f} GiB" for gpu in names) or "no CUDA device"
    preset = subject.preset
    if preset.device == "cpu":
        return ok(f"{seen}; preset {subject.preset_name} runs {preset.ranks_per_node} rank(s) on the CPU")
    if os.environ.get("VERL_PLATFORM", "").lower() == "cpu":
        return failed(f"VERL_PLATFORM=cpu, but preset {subject.preset_name} needs CUDA", "unset VERL_PLATFORM")
    if torch.version.cuda is None:
        return failed(f"torch {torch.__version__} is built without CUDA", INSTALL_GPU)
    wanted = max(preset.ranks_per_node, preset.rollout.tensor_parallel)
    seen += f"; preset {subject.preset_name} needs {wanted} devices"
    there = driver.look(torch.version.cuda)
    if count < wanted:
        why, fix = (driver.why_few if count else driver.why_none)(there)
        return failed(f"{seen}; {why}", fix)
    return ok(f"{seen}; {driver.told(there)}")


def check_memory(_: Subject) -> Outcome:
    """Enough main memory is free for a run's processes."""
    total, free = memory()
    seen = f"{free / GIB:.1f} GiB free of {total / GIB:.1f}"
    if free < LEAST_GIB * GIB:
        return failed(seen, f"a run needs at least {LEAST_GIB} GiB; end other programs or use a larger machine")
    if free < COMFORTABLE_GIB * GIB:
        return warning(seen, f"the tiny preset uses up to {COMFORTABLE_GIB} GB; lower preset.rollout.max_sequences")
    return ok(seen)


def memory() -> tuple[int, int]:
    """Total and free main memory in bytes, a container's limit respected."""
    found = psutil.virtual_memory()
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.is_file() else "max"
    total = found.total if limit == "max" else min(found.total, int(limit))
    return total, min(found.available, total)


def check_cores(_: Subject) -> Outcome:
    """Rollout and actor take turns, but Ray's and vLLM's helpers want a core beside theirs."""
    usable, busy = own_machine.usable_cpus(), os.getloadavg()[0]
    seen = f"{usable} of {os.cpu_count()} cores can be used; load {busy:.1f}"
    if usable < 2:
        return warning(seen, "a run works with one core, but slowly; give it two cores (taskset, docker --cpus)")
    if busy > usable:
        return warning(seen, "other programs use the cores, so measured times are wrong; wait, or end these programs")
    return ok(seen)


def check_shared_memory(subject: Subject) -> Outcome:
    """/dev/shm holds the buckets in which weights travel to vLLM."""
    from recipe.mer_r1.run import preflight

    if not os.path.isdir("/dev/shm"):
        return warning("there is no /dev/shm", "run on Linux, or mount a tmpfs at /dev/shm")
    needed_mb = preflight.shared_memory_mb(subject.preset)
    try:
        preflight.check_shared_memory(needed_mb)
    except preflight.PreflightError as error:
        return of_message(str(error))
    return ok(f"{shutil.disk_usage('/dev/shm').free >> 20} MiB free, {needed_mb} MiB needed")


def check_disk(subject: Subject) -> Outcome:
    """The run folder has room for the kept checkpoints, the one being written, and the exported model."""
    run_dir = Path(subject.config.run_dir).absolute()
    there = next(folder for folder in (run_dir, *run_dir.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    seen = f"{free / GIB:.1f} GiB free under {there}"
    if not os.access(there, os.W_OK):
        return failed(f"no permission to write to {there}", "choose another folder: run_dir=DIR")
    if free < GIB:
        return failed(seen, "free some disk space, or choose another folder: run_dir=DIR")
    parameters = weights.thinker_parameters(subject.model_path)
    if parameters is None and (published := sources.model(subject.preset.sft.model_path)):
        parameters = published.parameters
    if parameters is None:
        return ok(f"{seen}; the size of checkpoints is not known without a model")
    checkpoints = subject.config.trainer.max_actor_ckpt_to_keep + 1
    needed = parameters * (checkpoints * CHECKPOINT_BYTES_PER_PARAMETER + 4)
    seen += f"; {checkpoints} checkpoints and the exported model need {needed / GIB:.2f} GiB"
    if free < needed:
        advice = "free some disk space, choose another folder (run_dir=DIR), or set trainer.max_actor_ckpt_to_keep=1"
        return failed(seen, advice)
    return ok(seen)


def check_loopback(_: Subject) -> Outcome:
    """Processes on this machine can talk over TCP."""
    from recipe.mer_r1.run import preflight

    try:
        preflight.check_loopback()
    except preflight.PreflightError as error:
        return of_message(str(error))
    return ok("a port on 127.0.0.1 can be opened")


CHECKS = [
    Check("gpus", check_gpus, needs_preset=True),
    Check("memory", check_memory),
    Check("cores", check_cores),
    Check("shared memory", check_shared_memory, needs_preset=True),
    Check("disk", check_disk, needs_preset=True),
    Check("loopback", check_loopback),
]
