"""One stage as it runs: begun or gone on with, looked at, and stamped, however it ends."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from recipe.mer_r1.pipeline import process, stamps
from recipe.mer_r1.pipeline.progress import Status
from recipe.mer_r1.pipeline.stage import Stage
from recipe.mer_r1.pipeline.stamps import Stamp
from recipe.mer_r1.run import logs


class StageError(Exception):
    """A stage could not be run or did not end well.

    Attributes:
        lines: the end of its log, where it ran.
        log: the whole of it.
    """

    def __init__(self, message: str, lines: list[str], log: Path):
        super().__init__(message)
        self.lines, self.log = lines, log


@dataclass(frozen=True)
class Places:
    """Where stamps, logs and locks are kept: below the folder of all results."""

    out: Path

    def stamp(self, stage: Stage) -> Path:
        return self.out / "stamps" / f"{stage.name}.json"

    def log(self, stage: Stage) -> Path:
        return self.out / "logs" / f"{stage.name}.log"

    def lock(self, stage: Stage) -> Path:
        return self.out / "locks" / f"{stage.name}.lock"


def kept(stage: Stage, key: str, places: Places) -> Stamp | None:
    """The stamp of a stage that is finished, with this key and a result; None for any other one."""
    stamp = stamps.read(places.stamp(stage))
    return stamp if stamp and stamp.finished and stamp.key == key and stage.result.exists() else None


def begin(stage: Stage, key: str, places: Places, replace: bool = True) -> Stamp:
    """The stamp to go on from, of an attempt with the same key; or a new one, with an empty folder.

    A finished stage whose result is gone goes on too: its command makes what is missing.

    Args:
        key: what decides the result (:func:`.stamps.key_of`).
        replace: whether results that were made with another key are removed.

    Raises:
        StageError: the folder exists and has no stamp, or has one of another key and `replace` is false.
    """
    previous = stamps.read(places.stamp(stage))
    if previous is not None and previous.key == key and (stage.folder.exists() or not previous.finished):
        return dataclasses.replace(previous, finished=False)
    if stage.folder.exists():
        if previous is None:
            raise StageError(
                f"{stage.folder} exists, but this command did not make it: move it away, or choose another --out.",
                [],
                places.log(stage),
            )
        if not replace:
            raise StageError(
                f"{stage.folder} was made with other settings: add --redo to make it again, or choose another --out.",
                [],
                places.log(stage),
            )
        shutil.rmtree(stage.folder) if stage.folder.is_dir() else stage.folder.unlink()
    places.log(stage).unlink(missing_ok=True)
    return Stamp(key, shlex.join(["python", *stage.command]))


class StageRun:
    """A stage that runs. Started on construction; call `look` about once a second, and at the end `finish`.

    Args:
        stamp: to go on from (:func:`begin`).
        lock: keeps other processes from the stage; `finish` closes it.

    Attributes:
        resumed: whether it goes on with what an earlier attempt left.
        status: as of the last look.
    """

    def __init__(self, stage: Stage, stamp: Stamp, places: Places, lock: TextIO):
        self.stage, self.stamp = stage, stamp
        self._lock = lock
        previous = stamps.read(places.stamp(stage))
        self.resumed = previous is not None and previous.run == stamp.run and stage.folder.exists()
        self.status = Status()
        self.log = places.log(stage)
        self._stamp_path = places.stamp(stage)
        stamps.write(self._stamp_path, stamp)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as file:
            file.write(f"$ {stamp.command}\n")
        self._peak = 0
        self._first_step_seconds: float | None = None
        self._before = stamp.seconds
        self._end: float | None = None
        self._start = time.monotonic()
        command = [sys.executable, *stage.command]
        self.command = process.Command(command, self.log, gives_way=stage.light, held=[lock])

    @property
    def seconds(self) -> float:
        """Of all attempts."""
        return self._before + self._attempt

    @property
    def _attempt(self) -> float:
        """Seconds of this one."""
        return (self._end or time.monotonic()) - self._start

    def look(self) -> Status:
        """Time, memory, progress, the first training step."""
        self._peak = max(self._peak, self.command.resident_bytes())
        with suppress(OSError):  # the command runs, even if a folder cannot be read for a moment
            self.status = self.stage.watch(self.log)
        self._note_first_step()
        return self.status

    def finish(self) -> Stamp:
        """The stamp after this attempt, written; for a command that has ended."""
        self.look()
        finished = self.command.poll() == 0 and self.stage.result.exists()
        self._end = time.monotonic()
        self.stamp = self.stamp.after(self._attempt, self._peak / 1e9, self._first_step_seconds, finished)
        stamps.write(self._stamp_path, self.stamp)
        self._lock.close()
        return self.stamp

    def failure(self) -> StageError:
        """Why a command that has ended did not end well."""
        reason = reason_of(self.command.poll() or 0, self.stage)
        return StageError(f"{self.stage.title}: {reason}.", logs.relevant(self.log), self.log)

    def _note_first_step(self) -> None:
        """A step is seen when it is over. A resumed run may show steps of before; it is not measured."""
        status = self.status
        if not self.resumed and self._first_step_seconds is None and status.step_seconds is not None:
            elapsed = time.monotonic() - self._start
            self._first_step_seconds = elapsed - status.step_seconds * (status.done or 1)


def reason_of(exit_status: int, stage: Stage) -> str:
    """Why a stage has failed, as far as its end tells."""
    if exit_status < 0:
        memory = " (out of memory?)" if exit_status == -9 else ""
        return f"killed by signal {-exit_status}{memory}"
    return f"failed with exit status {exit_status}" if exit_status else f"failed: it did not write {stage.result}"
