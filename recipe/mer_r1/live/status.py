"""Whether a run goes on: what it says of itself, and how long its metrics have stood still."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipe.mer_r1.live import series
from recipe.mer_r1.run import state, steps

_PATIENCE = 3.0  # longest steps without a new one, after which a page says so
_LEAST_PATIENCE = 120.0  # seconds


@dataclass(frozen=True)
class Watched:
    """What is known of a run now.

    Attributes:
        steps: metrics by step; empty before the first.
        state: of :mod:`recipe.mer_r1.run.state`, "unknown" where the run left no record.
        total: steps that the run takes; 0 where unknown.
        error: of a failed run.
        changed: when the metrics file last grew, seconds since 1970; 0 before there is one.
        now: when this was read.
    """

    run_dir: Path
    steps: Mapping[int, Mapping[str, Any]]
    state: str
    total: int
    error: str
    changed: float
    now: float

    @property
    def over(self) -> bool:
        """Nothing more will come, or nobody can tell."""
        return self.state != state.RUNNING

    @property
    def step(self) -> int:
        """The last step taken."""
        return max(self.steps, default=0)

    @property
    def seconds_left(self) -> float:
        """By the mean of the latest steps, their validations included; 0 where unknown."""
        taken = series.step_seconds(self.steps)[-series.LATEST * 3 :]
        left = self.total - self.step
        return statistics.fmean(taken) * left if taken and left > 0 else 0.0

    @property
    def silent(self) -> float:
        """Seconds since the last step, where they are more than the run's own steps explain; else 0."""
        taken = series.step_seconds(self.steps)
        age = self.now - self.changed
        return age if taken and age > max(_PATIENCE * max(taken), _LEAST_PATIENCE) else 0.0


def watch(run_dir: Path) -> Watched:
    """Read a run's folder.

    Raises:
        FileNotFoundError: neither run.json nor metrics.jsonl is there.
        ValueError: run.json is broken.
    """
    metrics = run_dir / "metrics.jsonl"
    record = state.read(run_dir)
    if record is None and not metrics.is_file():
        raise FileNotFoundError(f"{run_dir} has no run.json and no metrics.jsonl: give the run_dir of a run.")
    there = metrics.is_file()
    return Watched(
        run_dir=run_dir,
        steps=steps.read(metrics) if there else {},
        state=record.seen_from_here() if record else state.UNKNOWN,
        total=record.steps if record else 0,
        error=record.error if record else "",
        changed=metrics.stat().st_mtime if there else 0.0,
        now=time.time(),
    )
