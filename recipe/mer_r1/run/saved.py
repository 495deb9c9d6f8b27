"""Which checkpoint a run's folder holds, and what to type to go on from it. Imports nothing heavy."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from omegaconf import DictConfig

TRACKER = "latest_checkpointed_iteration.txt"
PREFIX = "global_step_"
DISABLED = "disable"


def newest(folder: Path) -> Path | None:
    """The checkpoint that ``resume_mode=auto`` goes on from."""
    tracker = folder / TRACKER
    return folder / f"{PREFIX}{tracker.read_text().strip()}" if tracker.exists() else None


def newest_step(folder: Path) -> int | None:
    """Its step; None where there is no complete checkpoint."""
    found = newest(folder)
    return int(found.name.removeprefix(PREFIX)) if found and found.is_dir() else None


def how_to_go_on(config: DictConfig | None, program: str) -> str:
    """Whether a run that was ended has a checkpoint to go on from, and the command for it.

    Args:
        config: of the run; None where it had not been composed yet.
        program: "main_ppo" or "main_sft".
    """
    step = newest_step(Path(config.trainer.default_local_dir)) if config is not None else None
    if step is None:
        return "There is no checkpoint yet: the same command starts the run from its beginning."
    arguments = [each for each in sys.argv[1:] if not each.startswith("trainer.resume_mode=")]
    command = shlex.join(["python", "-m", f"recipe.mer_r1.{program}", *arguments])
    return f"The last checkpoint is that of step {step}. To continue from it:\n  {command}"
