"""How long the rest of an ablation may take, by what such stages took so far."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence

from recipe.mer_r1.pipeline.stage import Stage
from recipe.mer_r1.pipeline.stage_run import StageRun
from recipe.mer_r1.pipeline.stamps import Stamp


def kind_of(name: str) -> str:
    """rl, sft, eval, … of a stage's name."""
    return name.partition("-")[0]


def seconds_left(
    stages: Sequence[Stage],
    done: Mapping[str, Stamp],
    running: Mapping[str, StageRun],
    failed: Collection[str],
    jobs: int,
) -> float | None:
    """Seconds until all is done; light stages run beside the others. None while a kind has not been seen.

    Args:
        stages: all that are wanted.
        done, running, failed: those that are finished, run now, or will not be run, by name.
        jobs: stages at a time, and light ones at a time.
    """
    known: dict[str, list[float]] = {}
    for name, stamp in done.items():
        known.setdefault(kind_of(name), []).append(stamp.seconds)
    for name, run in running.items():
        if run.status.step_seconds is not None and run.status.total:
            rest = (run.status.total - (run.status.done or 0)) * run.status.step_seconds
            known.setdefault(kind_of(name), []).append(run.seconds + rest)
    left = [stage for stage in stages if stage.name not in done and stage.name not in failed]
    if any(kind_of(stage.name) not in known for stage in left if not stage.light):
        return None
    return max(_seconds([one.name for one in left if one.light == light], known, running, jobs) for light in (0, 1))


def _seconds(
    names: Sequence[str], known: Mapping[str, list[float]], running: Mapping[str, StageRun], jobs: int
) -> float:
    """Of stages that run `jobs` at a time; a kind that has not been seen takes none."""
    seconds = 0.0
    for name in names:
        spent = running[name].seconds if name in running else 0.0
        seconds += max(0.0, statistics.fmean(known.get(kind_of(name), [0.0])) - spent)
    return seconds / min(jobs, max(1, len(names)))
