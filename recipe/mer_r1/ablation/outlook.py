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
    """Seconds until all is done; light stages run beside others and take none. None while a kind has not been seen.

    Args:
        stages: all that are wanted.
        done, running, failed: those that are finished, run now, or will not be run, by name.
        jobs: stages at a time.
    """
    known: dict[str, list[float]] = {}
    for name, stamp in done.items():
        known.setdefault(kind_of(name), []).append(stamp.seconds)
    for name, run in running.items():
        if run.status.step_seconds is not None and run.status.total:
            rest = (run.status.total - (run.status.done or 0)) * run.status.step_seconds
            known.setdefault(kind_of(name), []).append(run.seconds + rest)
    left = [stage.name for stage in stages if stage.name not in done and stage.name not in failed and not stage.light]
    if any(kind_of(name) not in known for name in left):
        return None
    spent = {name: run.seconds for name, run in running.items()}
    seconds = sum(max(0.0, statistics.fmean(known[kind_of(name)]) - spent.get(name, 0.0)) for name in left)
    return seconds / min(jobs, max(1, len(left)))
