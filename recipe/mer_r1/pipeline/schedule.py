"""Runs stages as they become ready: skips what is done, goes on with what was interrupted, keeps the stamps.

A light stage (an evaluation) runs beside the others: a run of RL leaves a core idle for most of its time. Several
processes may work in one folder: each stage is made by one of them, and the others wait for it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from recipe.mer_r1.files.alone import take
from recipe.mer_r1.pipeline import process, stamps
from recipe.mer_r1.pipeline.progress import Status
from recipe.mer_r1.pipeline.screen import Screen
from recipe.mer_r1.pipeline.stage import Stage
from recipe.mer_r1.pipeline.stage_run import Places, StageError, StageRun, begin, kept
from recipe.mer_r1.pipeline.stamps import Stamp


class Schedule(ABC):
    """Stages, and what is to happen when one has ended.

    Args:
        out: folder of the stamps and logs.
        stages: in the order in which they are wanted, each behind the stages that it reads.
        jobs: stages at a time, and so many light ones beside them.
        replace: whether results that were made with other settings are made again; otherwise such a stage fails.

    Attributes:
        done: stamps of the finished stages, by name.
        errors: why a stage failed or could not be run, by name.
    """

    def __init__(self, out: Path, stages: Sequence[Stage], jobs: int = 1, replace: bool = True):
        self.stages, self.places = list(stages), Places(out)
        self.done: dict[str, Stamp] = {}
        self.errors: dict[str, StageError] = {}
        self._running: dict[str, StageRun] = {}
        self._elsewhere: set[str] = set()
        self._jobs, self._replace = jobs, replace

    def run(self, screen: Screen) -> dict[str, Stamp]:
        """Everything that can be run; the stamps of what is finished, by name and in order.

        Ctrl-C, and any error that leaves this method, ends the running stages and their processes first.
        """
        try:
            while True:
                self._start_ready(screen)
                if not self._running and not self._elsewhere:
                    return {stage.name: self.done[stage.name] for stage in self.stages if stage.name in self.done}
                for running in self._running.values():
                    running.look()
                    self._show(running, screen)
                screen.footer = self.footer()
                time.sleep(process.POLL_SECONDS)
                self._reap(screen)
        except BaseException:
            process.stop_all([running.command for running in self._running.values()])
            for running in self._running.values():
                running.finish()
                self._show(running, screen)
                screen.end(self.line(running.stage), "stopped", running.seconds)
            raise

    def stamp_path(self, stage: Stage) -> Path:
        """Where a stage's stamp is."""
        return self.places.stamp(stage)

    # ---------------------------------------------------------------- for those that inherit

    @abstractmethod
    def on_end(self, stage: Stage, screen: Screen, kept: bool) -> None:
        """A stage is finished; `kept`: it was so before."""

    @abstractmethod
    def on_failure(self, stage: Stage, error: StageError, screen: Screen, seconds: float) -> None:
        """A stage failed, or cannot be run. To raise the error ends the others."""

    def line(self, stage: Stage) -> str:
        """Name of the stage's line on the screen."""
        return stage.name

    def shown(self, stage: Stage, status: Status) -> Status:
        """What the line says of the running stage."""
        return status

    def footer(self) -> str:
        """The last line of the screen."""
        return ""

    # ---------------------------------------------------------------- the loop

    def _start_ready(self, screen: Screen) -> None:
        elsewhere, self._elsewhere = self._elsewhere, set()
        for stage in self.stages:
            if stage.name in self.done or stage.name in self._running or stage.name in self.errors:
                continue
            if lost := [before for before in stage.after if before in self.errors]:
                reason = f"it needs {lost[0]}, which failed"
                self._fail(stage, StageError(reason, [], self.places.log(stage)), screen)
            elif all(before in self.done for before in stage.after):
                self._begin(stage, screen, told=stage.name in elsewhere)

    def _room(self, stage: Stage) -> bool:
        return sum(one.stage.light == stage.light for one in self._running.values()) < self._jobs

    def _begin(self, stage: Stage, screen: Screen, told: bool) -> None:
        """Start a stage if it is to be made, there is room, and no other process makes it."""
        settings = [stage.settings] if stage.settings else []
        key = stamps.key_of([*stage.command, *settings], [self.done[name] for name in stage.after], stage.conf)
        if stamp := kept(stage, key, self.places):
            self.done[stage.name] = stamp
            self.on_end(stage, screen, kept=True)
            return
        if not self._room(stage):
            return
        lock = take(self.places.lock(stage))
        if lock is None:
            self._elsewhere.add(stage.name)
            if not told:
                screen.console.print(f"{stage.name}: another process makes it; waiting", markup=False, highlight=False)
            return
        if kept(stage, key, self.places):  # another process ended it just now; the next look takes it
            lock.close()
            self._elsewhere.add(stage.name)
            return
        try:
            stamp = begin(stage, key, self.places, self._replace)
        except StageError as error:
            lock.close()
            self._fail(stage, error, screen)
            return
        running = StageRun(stage, stamp, self.places, lock)
        self._running[stage.name] = running
        screen.begin(self.line(stage), stamp.command, running.resumed)

    def _show(self, running: StageRun, screen: Screen) -> None:
        screen.update(self.line(running.stage), self.shown(running.stage, running.status), running.seconds)

    def _reap(self, screen: Screen) -> None:
        """Take those that have ended off the list; the stamp records every attempt, however it ends."""
        for name, running in list(self._running.items()):
            if running.command.poll() is None:
                continue
            del self._running[name]
            stamp = running.finish()
            self._show(running, screen)
            if stamp.finished:
                self.done[name] = stamp
                self.on_end(running.stage, screen, kept=False)
            else:
                self._fail(running.stage, running.failure(), screen, running.seconds)

    def _fail(self, stage: Stage, error: StageError, screen: Screen, seconds: float = 0.0) -> None:
        self.errors[stage.name] = error
        self.on_failure(stage, error, screen, seconds)
