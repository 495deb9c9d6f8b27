"""The NVIDIA driver: which one is there, which one torch's CUDA needs, and why torch sees no GPU."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc/driver/nvidia/version")
DEVICES = Path("/dev")
SMI_SECONDS = 30
# Major version of CUDA -> the oldest driver branch that runs it, whatever the minor version. NVIDIA, "CUDA
# Compatibility", table 1: docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
LEAST_DRIVER = {11: 450, 12: 525, 13: 580}
HAND_OVER = "`docker run --gpus all`, `apptainer run --nv`, SLURM's `--gpus-per-node`"


@dataclass(frozen=True)
class Seen:
    """What decides whether torch can see a GPU.

    Attributes:
        driver: version of the NVIDIA driver, such as ``580.95.05``; None: none was found.
        cuda: version that torch was built for, such as ``13.0``.
        visible: value of CUDA_VISIBLE_DEVICES; None: not set.
        files: number of device files ``/dev/nvidia0``, ``/dev/nvidia1``, ….
    """

    driver: str | None
    cuda: str
    visible: str | None
    files: int


def look(cuda: str) -> Seen:
    """What is there on this machine, for a torch that was built for this CUDA."""
    files = sum(re.fullmatch(r"nvidia\d+", file.name) is not None for file in DEVICES.glob("nvidia*"))
    return Seen(found(), cuda, os.environ.get("CUDA_VISIBLE_DEVICES"), files)


def found() -> str | None:
    """The driver's version: of the kernel's file, which a container may hide, else of NVML, else of nvidia-smi."""
    kernel = version_in(PROC.read_text()) if PROC.is_file() else None
    return kernel or _of_nvml() or _of_smi()


def version_in(text: str) -> str | None:
    """The driver's version in the text of ``/proc/driver/nvidia/version``, of both kinds of kernel module; or None."""
    line = re.search(r"^NVRM version:.*$", text, re.M)
    version = line and re.search(r"\s(\d{3,}(?:\.\d+)+)(?=\s|$)", line[0])
    return version[1] if version else None


def _of_nvml() -> str | None:
    try:
        import pynvml
    except ImportError:  # nvidia-ml-py, of the GPU profile
        return None
    try:
        pynvml.nvmlInit()
        return pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:
        return None


def _of_smi() -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SMI_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"^\d{3,}(?:\.\d+)+$", done.stdout, re.M)
    return version[0] if version else None


def least_for(cuda: str) -> int | None:
    """The oldest driver branch for a version of CUDA; None where that is not known."""
    return LEAST_DRIVER.get(int(cuda.partition(".")[0]))


def told(seen: Seen) -> str:
    """The driver and what torch needs, for a machine where all is well."""
    least = least_for(seen.cuda)
    needs = f", and torch's CUDA {seen.cuda} needs {least} or newer" if least else f", and torch has CUDA {seen.cuda}"
    return f"NVIDIA driver {seen.driver or 'of unknown version'}{needs}"


def why_none(seen: Seen) -> tuple[str, str]:
    """Why torch sees no GPU, and how to fix it."""
    least = least_for(seen.cuda)
    wanted = f"driver {least} or newer" if least else f"a driver for CUDA {seen.cuda}"
    if seen.driver is None:
        return (
            f"no NVIDIA driver was found, and torch's CUDA {seen.cuda} needs {wanted}",
            f"install {wanted} on the host; if it is there, hand the GPUs to the container or the job: {HAND_OVER}",
        )
    if least and int(seen.driver.partition(".")[0]) < least:
        return (
            f"the NVIDIA driver is {seen.driver}, but torch's CUDA {seen.cuda} needs {least} or newer",
            f"install {wanted}; on data-centre GPUs NVIDIA's package cuda-compat-{seen.cuda.replace('.', '-')} is "
            "another way",
        )
    # Without device files, a list that names GPUs is not the cause.
    if seen.visible is not None and (seen.files or seen.visible.strip() in ("", "-1")):
        return (
            f"CUDA_VISIBLE_DEVICES={seen.visible!r} hides every GPU; {told(seen)}",
            "unset CUDA_VISIBLE_DEVICES, or name GPUs that `nvidia-smi -L` lists",
        )
    if not seen.files:
        return (
            f"{told(seen)}, but there is no /dev/nvidia0: this process was given no GPU",
            f"hand the GPUs to the container or the job: {HAND_OVER}",
        )
    return (
        f"{told(seen)}, and there are {seen.files} GPU(s) in /dev, but torch cannot use them",
        "run `nvidia-smi`; reboot if the driver was just updated; on machines with NVSwitch (HGX, DGX) start "
        "nvidia-fabricmanager, whose version must be the driver's; see `dmesg | grep NVRM`",
    )


def why_few(seen: Seen) -> tuple[str, str]:
    """Why torch sees fewer GPUs than are wanted, and how to fix it."""
    if seen.visible is not None:
        return (
            f"CUDA_VISIBLE_DEVICES={seen.visible!r}; {told(seen)}",
            "unset CUDA_VISIBLE_DEVICES or name more GPUs, or lower preset.ranks_per_node",
        )
    return told(seen), "lower preset.ranks_per_node, or use a machine or a job with more GPUs"
