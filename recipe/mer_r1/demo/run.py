"""Runs the stages in order: skips what is done, goes on with what was interrupted, keeps the stamps."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from recipe.mer_r1.demo import logs, process, stamps
from recipe.mer_r1.demo.progress import Status
from recipe.mer_r1.demo.screen import Screen
from recipe.mer_r1.demo.stages import Stage
from recipe.mer_r1.demo.stamps import Stamp


class StageError(Exception):
    """A stage could not be run or did not end well.

    Attributes:
        lines: the end of its log, where it ran.
        log: the whole of it.
    """

    def __init__(self, message: str, lines: list[str], log: Path):
        super().__init__(message)
        self.lines, self.log = lines, log


@dataclass
class Demo:
    """A demo's folder and its stages."""

    out: Path
    stages: list[Stage]

    def stamp_path(self, stage: Stage) -> Path:
        return self.out / "stamps" / f"{stage.name}.json"

    def log_path(self, stage: Stage) -> Path:
        return self.out / "logs" / f"{stage.name}.log"

    def run(self, screen: Screen) -> dict[str, Stamp]:
        """All stages; their stamps by name.

        Raises:
            StageError: at the first that fails.
            KeyboardInterrupt: after the running stage and its processes have ended.
        """
        done: dict[str, Stamp] = {}
        for stage in self.stages:
            stamp = self._begin(stage, done)
            if stamp.finished:
                screen.end(stage.name, "kept", stamp.seconds)
            else:
                stamp = self._execute(stage, stamp, screen)
            done[stage.name] = stamp
        return done

    def _begin(self, stage: Stage, done: dict[str, Stamp]) -> Stamp:
        """The stamp to go on from: finished, interrupted, or new; a new one starts with an empty folder."""
        key = stamps.key_of(stage.command, [done[name] for name in stage.after], stage.conf)
        previous = stamps.read(self.stamp_path(stage))
        lost = previous is not None and previous.finished and not stage.result.exists()
        if previous is not None and previous.key == key and not lost:
            return previous
        if stage.folder.exists():
            if previous is None:
                raise StageError(
                    f"{stage.folder} exists, but the demo did not make it: move it away, or choose another --out.",
                    [],
                    self.log_path(stage),
                )
            shutil.rmtree(stage.folder)
        self.log_path(stage).unlink(missing_ok=True)
        return Stamp(key, shlex.join(["python", *stage.command]))

    def _execute(self, stage: Stage, stamp: Stamp, screen: Screen) -> Stamp:
        """Run the command; the stamp records every attempt, however it ends."""
        resumed = stamps.read(self.stamp_path(stage)) == stamp and stage.folder.exists()
        stamps.write(self.stamp_path(stage), stamp)
        log = self.log_path(stage)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write(f"$ {stamp.command}\n")
        screen.begin(stage.name, stamp.command, resumed)
        meter = _Meter(stage, log, screen, stamp.seconds, resumed)
        state, exit_status = "stopped", None
        try:
            exit_status = process.Command([sys.executable, *stage.command], log).wait(meter.look)
            state = "done" if exit_status == 0 and stage.result.exists() else "failed"
        finally:
            meter.look()
            stamp = stamp.after(meter.seconds, meter.peak / 1e9, meter.first_step_seconds, state == "done")
            stamps.write(self.stamp_path(stage), stamp)
            screen.end(stage.name, state, stamp.seconds)
        if state == "failed":
            raise StageError(f"{stage.title}: {_reason(exit_status, stage)}.", logs.relevant(log), log)
        return stamp


def _reason(exit_status: int, stage: Stage) -> str:
    """Why a stage has failed, as far as its end tells."""
    if exit_status < 0:
        memory = " (out of memory?)" if exit_status == -9 else ""
        return f"killed by signal {-exit_status}{memory}"
    return f"failed with exit status {exit_status}" if exit_status else f"failed: it did not write {stage.result}"


class _Meter:
    """Looks at the running stage about once a second: time, memory, progress, the first training step."""

    def __init__(self, stage: Stage, log: Path, screen: Screen, seconds_before: float, resumed: bool):
        self._stage, self._log, self._screen, self._before = stage, log, screen, seconds_before
        self._start = time.monotonic()
        self._resumed = resumed
        self.peak = 0
        self.first_step_seconds: float | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def look(self) -> None:
        self.peak = max(self.peak, process.resident_bytes())
        status = self._stage.watch(self._log)
        self._note_first_step(status)
        self._screen.update(self._stage.name, status, self._before + self.seconds)

    def _note_first_step(self, status: Status) -> None:
        """A step is seen when it is over. A resumed run may show steps of before; it is not measured."""
        if not self._resumed and self.first_step_seconds is None and status.step_seconds is not None:
            self.first_step_seconds = self.seconds - status.step_seconds * (status.done or 1)
