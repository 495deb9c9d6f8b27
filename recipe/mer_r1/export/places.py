"""Which checkpoint is meant, and the run that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recipe.mer_r1.files.errors import InputError

_TRACKER = "latest_checkpointed_iteration.txt"
_STEP = "global_step_"


@dataclass(frozen=True)
class Checkpoint:
    """One saved step.

    Attributes:
        shards: the folder with every rank's weights.
        step: its number.
        run_dir: the run's folder; for checkpoints kept elsewhere, the folder above them.
    """

    shards: Path
    step: int
    run_dir: Path


def find(path: Path, step: int | None = None) -> Checkpoint:
    """The checkpoint in a run's folder, a folder of checkpoints, a ``global_step_N`` or its ``actor``.

    Args:
        path: any of these, of RL or SFT.
        step: which one; None: the newest complete one, by verl's own note of it.

    Raises:
        InputError: nothing of the kind is there; names what is.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; give a run folder or one of its checkpoints")
    path = path.resolve()
    folder = path.parent if path.name == "actor" else path
    if folder.name.startswith(_STEP):
        if step is not None and folder.name != f"{_STEP}{step}":
            raise InputError(f"--step {step}: {path} is already a checkpoint, but of another step; remove --step")
        return _checkpoint(folder)
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    known = sorted(
        int(name)
        for entry in folder.glob(f"{_STEP}*")
        if (name := entry.name.removeprefix(_STEP)).isdigit() and _shards(entry)
    )
    if not known:
        raise InputError(
            f"{path}: no checkpoint with weights ({_STEP}N) in this folder. If the run used "
            "trainer.default_local_dir, give that folder."
        )
    if step is None:
        if not (folder / _TRACKER).is_file():
            raise InputError(
                f"{folder}: no {_TRACKER}, so no checkpoint is known to be complete; choose one with --step"
            )
        step = int((folder / _TRACKER).read_text())
    if step not in known:
        raise InputError(f"{folder}: no weights of step {step}; choose one of {', '.join(map(str, known))}")
    return _checkpoint(folder / f"{_STEP}{step}")


def _shards(folder: Path) -> Path | None:
    """Where a step's weights lie: RL saves the actor in a folder of its own, SFT does not."""
    return next((place for place in (folder / "actor", folder) if any(place.glob("model_world_size_*.pt"))), None)


def _checkpoint(folder: Path) -> Checkpoint:
    shards, number = _shards(folder), folder.name.removeprefix(_STEP)
    if shards is None or not number.isdigit():
        raise InputError(
            f"{folder}: no model_world_size_N_rank_R.pt in this folder; verl deletes the weights of older checkpoints"
        )
    return Checkpoint(shards, int(number), folder.parent.parent)
