"""What each of several workers may use of the machine: its own GPUs, or its share of the threads of a CPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from omegaconf import DictConfig

from recipe.mer_r1.files.errors import InputError

_CUDA, _HIP, _THREADS = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "OMP_NUM_THREADS"


def environments(workers: int, preset: DictConfig) -> list[dict[str, str]]:
    """The environment variables of each worker, where they differ from those of this process.

    Args:
        workers: their number.
        preset: `device` and `rollout.tensor_parallel` are read.

    Raises:
        InputError: fewer GPUs are visible than the workers need.
    """
    if preset.device == "cpu":
        return [{_THREADS: str(max(1, _threads(os.environ) // workers))}] * workers
    return gpus(workers, preset.rollout.tensor_parallel, os.environ, _count)


def gpus(workers: int, each: int, environment: Mapping[str, str], count: Callable[[], int]) -> list[dict[str, str]]:
    """The variables that give each worker its GPUs, in the order in which this process sees them.

    Args:
        each: GPUs per worker.
        environment: of this process; CUDA_VISIBLE_DEVICES, or HIP_VISIBLE_DEVICES on AMD's GPUs, may name some GPUs.
        count: gives the number of GPUs that can be used.

    Raises:
        InputError: they are too few.
    """
    variable = next((name for name in (_CUDA, _HIP) if name in environment), _CUDA)
    there, named = count(), environment.get(variable)
    # CUDA stops at the first name that is none of its GPUs.
    names = [str(number) for number in range(there)] if named is None else named.split(",")[:there]
    if len(names) < workers * each:
        split = f" with rollout.tensor_parallel={each}" if each > 1 else ""
        seen = f"{len(names)} {'is' if len(names) == 1 else 'are'} visible"
        fits = len(names) // each
        fix = f"Give --workers {fits}" if fits else "Use a machine with GPUs"
        raise InputError(
            f"--workers {workers}{split} needs {workers * each} GPUs, but {seen}"
            + (f" ({variable}={named})" if named is not None else "")
            + f". {fix}{', or name more GPUs in ' + variable if named is not None else ''}."
        )
    set_here = [name for name in (_CUDA, _HIP) if name in environment] or [_CUDA]
    groups = (names[first : first + each] for first in range(0, workers * each, each))
    return [dict.fromkeys(set_here, ",".join(name.strip() for name in group)) for group in groups]


def told(environment: Mapping[str, str]) -> str:
    """A worker's GPUs, for a message; "" on a CPU."""
    ids = environment.get(_CUDA) or environment.get(_HIP)
    return f" (GPU {ids})" if ids else ""


def _threads(environment: Mapping[str, str]) -> int:
    """What this process would use; `launch.prepare_environment` has set it where the user has not."""
    given = environment.get(_THREADS, "1").split(",")[0]
    return int(given) if given.isdigit() else 1


def _count() -> int:
    import torch

    return torch.cuda.device_count()  # asks the driver only: workers must find the GPUs untouched
