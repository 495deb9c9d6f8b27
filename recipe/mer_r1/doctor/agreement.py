"""vLLM and transformers agree on a model: the comparison as a check, in a process with a time limit.

On a CPU both sides compute in float32; on a GPU in the dtype of the preset's rollout.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from recipe.mer_r1.doctor import weights
from recipe.mer_r1.doctor.machine import GIB, memory
from recipe.mer_r1.doctor.outcome import Check, Outcome, Subject, failed, ok, warning

EXACT = "float32"
# Nats. In float32 the largest difference that may be. It is also the least limit in low precision.
LIMIT = 1e-4
# In low precision: vLLM's distance from float32 as a multiple of transformers' own. Measured in bfloat16 on a CPU
# (docs/agreement.md), mean: .9 to 1.0 where all is right, 2.4 and more with another clip, 2.2 and more with weights 1 %
# off, 3.2 and more without M-RoPE; max: .9 to 1.5 where all is right.
MEAN_LIMIT, MAX_LIMIT = 1.5, 3.0
SECONDS = 600
LAST_LINES = 3
LOOK = "do not train with this model: see docs/agreement.md and run tests/verl_ext/rollout/test_parity.py"


def check_agreement(subject: Subject, seconds: float = SECONDS) -> Outcome:
    """Placeholders and log-probs of both sides are the same; a warning where that was not tried."""
    reason = _why_not(subject)
    if reason:
        return warning(f"skipped: {reason}", "give a complete model that fits into memory, with --model DIR")
    module = ["-m", "recipe.mer_r1.doctor.compare"]
    command = [sys.executable, *module, "--model", str(subject.model), "--preset", subject.preset_name]
    command += ["--dtype", dtype_of(subject.preset)]
    return judge(*run_limited(command, seconds), seconds)


def dtype_of(preset: DictConfig) -> str:
    """float32 on a CPU. On a GPU the rollout's own: FlashAttention's kernels refuse float32, Triton's may use TF32."""
    return preset.rollout.dtype if preset.device == "cuda" else EXACT


def _why_not(subject: Subject) -> str | None:
    from recipe.mer_r1.run import preflight

    if subject.model is None:
        return "--model is not given"
    if not Path(subject.model).is_dir():
        return "the model is not a folder"
    try:
        preflight.check_model_folder(subject.model, "--model")
    except preflight.PreflightError:
        return "the model folder is not complete"
    parameters = weights.thinker_parameters(subject.model)
    if not parameters:
        return "the weights cannot be used"
    cuda = subject.preset.device == "cuda"
    if cuda and not _has_device():
        return "there is no CUDA device"
    # vLLM in the dtype and transformers in float32, if vLLM is slow to release its memory.
    dtype = dtype_of(subject.preset)
    needed = ((4 if dtype == EXACT else 2) + 4) * parameters + 3 * GIB
    free = _device_memory() if cuda else memory()[1]
    if free < needed:
        sides = f"vLLM in {dtype} and transformers in float32"
        return f"{sides} need {needed / GIB:.0f} GiB, but {free / GIB:.0f} GiB are free"
    return None


def _has_device() -> bool:
    import torch

    return torch.cuda.is_available()


def _device_memory() -> int:
    import torch

    return torch.cuda.mem_get_info()[0]


def run_limited(command: Sequence[str], seconds: float) -> tuple[int | None, list[str], list[str]]:
    """Exit code (None: out of time) and the lines of stdout and stderr. No process of the command's is left behind."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors, start_new_session=True)
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
        texts = []
        for file in (out, errors):
            file.seek(0)
            texts.append(file.read())
    return code, *([line.strip() for line in text.splitlines() if line.strip()] for text in texts)


def _end(process: subprocess.Popen) -> None:
    """Ctrl-C first, by which vLLM clears its shared memory, then kill what is left of the group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def judge(code: int | None, out: list[str], errors: list[str], seconds: float = SECONDS) -> Outcome:
    """What the comparison's exit code and lines mean."""
    last = " | ".join((errors or out)[-LAST_LINES:]) or "it printed nothing"
    if code is None:
        return failed(
            f"no answer within {seconds:.0f} s; last lines: {last}",
            "run again when the machine is not busy, or fix the problem in the last lines",
        )
    if code != 0:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return failed(f"the comparison ended with {how}; last lines: {last}", "fix the problem in the last lines")
    found = json.loads(out[-1])
    ours, theirs = found["transformers"], found["vllm"]
    counts = f"{ours['video']} video and {ours['audio']} audio placeholders"
    if ours != theirs:
        return failed(f"{counts} in transformers, but {theirs['video']} and {theirs['audio']} in vLLM", LOOK)
    if not found["same_prompt"]:
        return failed(f"{counts} on both sides, but the tokens of the prompts differ", LOOK)
    seen, good = judge_gap(found)
    return ok(f"{counts} on both sides, {seen}") if good else failed(seen, LOOK)


def judge_gap(found: Mapping[str, Any]) -> tuple[str, bool]:
    """What the log-probs show, and whether vLLM is as near to transformers as it must be; nan is not."""
    dtype, gap, noise = found["dtype"], found["gap"], found["noise"]
    seen = f"log-probs of {found['tokens']} tokens in {dtype} differ by "
    seen += f"{gap['mean']:.1e} (mean) and {gap['max']:.1e} (max)"
    if noise is None:
        return f"{seen}; limit {LIMIT:.0e} (max)", gap["max"] <= LIMIT
    limits = {"mean": max(LIMIT, MEAN_LIMIT * noise["mean"]), "max": max(LIMIT, MAX_LIMIT * noise["max"])}
    seen += f" from transformers in float32; limits {limits['mean']:.1e} (mean) and {limits['max']:.1e} (max): "
    seen += f"{MEAN_LIMIT} and {MAX_LIMIT} times the rounding of transformers in {dtype}"
    return seen, all(gap[kind] <= limits[kind] for kind in limits)


CHECKS = [Check("vLLM and transformers agree", check_agreement, needs_preset=True)]
