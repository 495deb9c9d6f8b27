"""Checkpoints of SFT and RL: a folder ``global_step_N`` is whole or absent, whatever is killed or full in between.

verl 0.9.1 writes a checkpoint where it will stand, deletes an older one before the new one is whole, rewrites the
tracker (the file that names the newest one, for ``resume_mode=auto``; RL's in place), and after a resume no longer
knows which older ones it may delete. Here it writes into a folder of its own, which is then renamed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from verl.trainer.ppo.checkpoint_callback import CheckpointCallback

from recipe.mer_r1.files.whole import write_whole
from recipe.mer_r1.run.saved import PREFIX, TRACKER, newest

UNFINISHED = "unfinished"
"""Folder beside the checkpoints: what is being written. Of a run that was killed, the next save removes it."""


class CheckpointError(RuntimeError):
    """A checkpoint could not be written; the older ones stand as they were."""


@contextmanager
def whole(folder: Path, step: int, keep: int | None) -> Iterator[Path]:
    """Yields where to write the checkpoint of a step; what was written there then becomes the newest in `folder`.

    Args:
        folder: of the checkpoints, which all nodes share.
        step: whose state is written, as ``global_step_N``.
        keep: the last ones to keep; None for all.

    Raises:
        CheckpointError: names the folder, the room there, and what a resume goes on from.
    """
    unfinished = folder / UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    with explained(folder, step):
        try:
            yield unfinished
            _publish(unfinished / f"{PREFIX}{step}", folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    if keep:
        _delete_older(folder, step, keep)


@contextmanager
def explained(folder: Path, step: int) -> Iterator[None]:
    """Turns an error of writing the checkpoint of a step into a CheckpointError."""
    try:
        yield
    except Exception as error:  # a worker's error comes in Ray's wrapping
        raise CheckpointError(_failure(error, folder, step)) from error


class CheckpointMixin:
    """For any of verl's V1 trainers, whose nodes share the checkpoint folder."""

    def _save_checkpoint(self) -> None:
        """Write the state after this step, make it the newest, then delete those over ``max_actor_ckpt_to_keep``.

        Raises:
            CheckpointError: see :func:`whole`.
        """
        trainer, callback = self.config.trainer, self.checkpoint_callback
        folder = Path(trainer.default_local_dir)
        try:
            with (
                whole(folder, self.global_steps, trainer.max_actor_ckpt_to_keep) as unfinished,
                _instead(trainer, unfinished),
            ):
                self.checkpoint_callback = CheckpointCallback()
                super()._save_checkpoint()
        finally:
            self.checkpoint_callback = callback
        callback.on_save(
            trainer=self,
            global_step=self.global_steps,
            checkpoint_dir=str(folder / f"{PREFIX}{self.global_steps}"),
            async_save=False,
        )


@contextmanager
def _instead(trainer: DictConfig, folder: Path) -> Iterator[None]:
    """verl's settings for a save into another folder that deletes nothing."""
    values: dict[str, Any] = {"default_local_dir": str(folder)}
    values |= dict.fromkeys(("max_actor_ckpt_to_keep", "max_critic_ckpt_to_keep"))
    before = {key: trainer[key] for key in values}
    trainer.update(values)
    try:
        yield
    finally:
        trainer.update(before)


def _publish(written: Path, folder: Path) -> None:
    """Rename a checkpoint to where it stands, and name it in the tracker; each of the two happens at once."""
    final = folder / written.name
    if final.exists():  # this step again, after a resume from an older one
        os.replace(final, written.with_name("replaced"))
    os.replace(written, final)
    write_whole(folder / TRACKER, written.name.removeprefix(PREFIX).encode())


def _delete_older(folder: Path, step: int, keep: int) -> None:
    """Leave the last `keep` checkpoints up to `step`."""
    steps = [int(path.name.removeprefix(PREFIX)) for path in folder.glob(f"{PREFIX}*")]
    for old in sorted(found for found in steps if found <= step)[:-keep]:
        shutil.rmtree(folder / f"{PREFIX}{old}")


def _failure(error: Exception, folder: Path, step: int) -> str:
    free, old = shutil.disk_usage(folder).free, newest(folder)
    text = f"cannot write the checkpoint of step {step} to {folder}, which has {free / 1e6:,.0f} MB of free space"
    if old:
        size = sum(file.stat().st_size for file in old.rglob("*") if file.is_file())
        text += (
            f"; {old.name} needs {size / 1e6:,.0f} MB. Checkpoint {old.name} is complete: free some disk space, and "
        )
        text += "run the same command again to continue from it."
    else:
        text += ". There is no earlier checkpoint: free some disk space, and start the run again."
    return f"{text}\nCause: {str(error).strip().splitlines()[-1] if str(error).strip() else repr(error)}"
