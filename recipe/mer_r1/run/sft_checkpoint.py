"""verl's checkpoints of SFT, each whole or absent: see :mod:`recipe.mer_r1.run.checkpoint`."""

from __future__ import annotations

from pathlib import Path

import torch.distributed as dist
from verl.utils.checkpoint import CheckpointHandler

from recipe.mer_r1.run.checkpoint import UNFINISHED, explained, whole


class WholeCheckpoints:
    """In the place of verl's handler, which writes and reads them.

    Args:
        handler: verl's; its folder is one that all ranks share.
    """

    def __init__(self, handler: CheckpointHandler):
        self._handler = handler
        self._folder, self._keep = Path(handler.default_local_dir), handler.max_ckpt_to_keep
        handler.max_ckpt_to_keep = None  # verl would delete the old one before the new one is whole

    def load_checkpoint(self) -> int:
        """The step gone on from; 0 where there is no checkpoint."""
        return self._handler.load_checkpoint()

    def save_checkpoint(self, step: int) -> None:
        """To be called on every rank; the first one names the checkpoint as the newest once all have written.

        Raises:
            CheckpointError: see :func:`recipe.mer_r1.run.checkpoint.whole`.
        """
        if self._handler.rank == 0:
            with whole(self._folder, step, self._keep) as unfinished:
                self._write(step, unfinished)
        else:
            with explained(self._folder, step):
                self._write(step, self._folder / UNFINISHED)

    def _write(self, step: int, folder: Path) -> None:
        dist.barrier()  # the remains of an earlier one are gone
        self._handler.default_local_dir = str(folder)
        try:
            self._handler.save_checkpoint(step)  # ends with a barrier
        finally:
            self._handler.default_local_dir = str(self._folder)
