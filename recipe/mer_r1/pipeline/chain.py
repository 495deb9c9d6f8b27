"""Runs stages in order: skips what is done, goes on with what was interrupted, keeps the stamps.

One stage runs at a time, and a light one (an evaluation) beside it: a run of RL keeps a core idle for most of its time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recipe.mer_r1.pipeline import process, stamps
from recipe.mer_r1.pipeline.screen import Screen
from recipe.mer_r1.pipeline.stage import Stage
from recipe.mer_r1.pipeline.stage_run import Places, StageRun, begin
from recipe.mer_r1.pipeline.stamps import Stamp


@dataclass
class Chain:
    """A folder and the stages that fill it, each behind the stages that it reads."""

    out: Path
    stages: list[Stage]
    _done: dict[str, Stamp] = field(default_factory=dict, init=False)
    _running: dict[str, StageRun] = field(default_factory=dict, init=False)

    def stamp_path(self, stage: Stage) -> Path:
        return Places(self.out).stamp(stage)

    def log_path(self, stage: Stage) -> Path:
        return Places(self.out).log(stage)

    def run(self, screen: Screen) -> dict[str, Stamp]:
        """All stages; their stamps by name.

        Raises:
            StageError: at the first that fails, after a stage beside it was stopped.
            KeyboardInterrupt: after the running stages and their processes have ended.
        """
        try:
            while len(self._done) < len(self.stages):
                for stage in self.stages:
                    if self._may_start(stage):
                        self._begin(stage, screen)
                for running in self._running.values():
                    screen.update(running.stage.name, running.look(), running.seconds)
                if self._running:
                    time.sleep(process.POLL_SECONDS)
                self._reap(screen)
        except BaseException:
            process.stop_all([running.command for running in self._running.values()])
            for running in self._running.values():
                running.finish()
                _end(running, "stopped", screen)
            raise
        return {stage.name: self._done[stage.name] for stage in self.stages}

    def _may_start(self, stage: Stage) -> bool:
        waiting = stage.name not in self._done and stage.name not in self._running
        return (
            waiting
            and all(before in self._done for before in stage.after)
            and go_together([*(running.stage for running in self._running.values()), stage])
        )

    def _begin(self, stage: Stage, screen: Screen) -> None:
        key = stamps.key_of(stage.command, [self._done[name] for name in stage.after], stage.conf)
        stamp = begin(stage, key, Places(self.out))
        if stamp.finished:
            self._done[stage.name] = stamp
            screen.end(stage.name, "kept", stamp.seconds)
            return
        running = StageRun(stage, stamp, Places(self.out))
        self._running[stage.name] = running
        screen.begin(stage.name, stamp.command, running.resumed)

    def _reap(self, screen: Screen) -> None:
        """Take those that have ended off the list; the stamp records every attempt, however it ends."""
        for name, running in list(self._running.items()):
            if running.command.poll() is None:
                continue
            del self._running[name]
            stamp = running.finish()
            _end(running, "done" if stamp.finished else "failed", screen)
            if not stamp.finished:
                raise running.failure()
            self._done[name] = stamp


def go_together(stages: Sequence[Stage]) -> bool:
    """Whether stages may run at the same time: two at most, and at most one of them needs the memory of a training."""
    return len(stages) <= 2 and sum(not stage.light for stage in stages) <= 1


def _end(running: StageRun, state: str, screen: Screen) -> None:
    screen.update(running.stage.name, running.status, running.stamp.seconds)
    screen.end(running.stage.name, state, running.stamp.seconds)
