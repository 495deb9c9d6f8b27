"""CPU time and memory of a command with all its processes, and when its training steps end."""

from __future__ import annotations

import sys
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))  # the repository, where it is not installed

from recipe.mer_r1.pipeline import progress


@dataclass(frozen=True)
class Mark:
    """A moment at which a step has ended.

    Attributes:
        steps: number of steps that have ended.
        time: seconds since the epoch.
    """

    steps: int
    time: float


def cpu_seconds_per_step(samples: Sequence[tuple[float, float]], marks: Sequence[Mark], total: int) -> float | None:
    """CPU-seconds of a step, as a mean over the steps after the first and before the last.

    The first step warms up, and the last one writes a checkpoint.

    Args:
        samples: (seconds since the epoch, CPU-seconds used until then), in order.
        total: steps of the run.

    Returns:
        None where too few steps were seen.
    """
    inner = [mark for mark in marks if mark.steps < total]
    if not samples or len(inner) < 2:
        return None
    first, last = inner[0], inner[-1]
    return (_at(samples, last.time) - _at(samples, first.time)) / (last.steps - first.steps)


def _at(samples: Sequence[tuple[float, float]], moment: float) -> float:
    """CPU-seconds used until a moment, linear between two samples."""
    place = bisect_left(samples, (moment,))
    if place == 0:
        return samples[0][1]
    if place == len(samples):
        return samples[-1][1]
    (before, used), (after, used_after) = samples[place - 1], samples[place]
    return used + (used_after - used) * (moment - before) / (after - before)


class TreeWatch:
    """Samples all processes below this one that did not exist when the watch was made.

    Args:
        metrics: the run's metrics file, one JSON line for each step.

    Attributes:
        begin: when the watch was made, in seconds since the epoch.
        samples: (seconds since the epoch, CPU-seconds of all processes so far, of those that have ended, too).
        marks: the ends of steps that were seen.
        peak_rss: largest sum of resident memory, in bytes. Pages that processes share are counted in each.
        pss: sum of proportional memory after the second step, in bytes: a shared page is counted once. It is read only
            once, because the kernel needs 20 ms for each GB.
    """

    def __init__(self, metrics: Path):
        self._metrics = metrics
        self._not_ours = {process.pid for process in psutil.Process().children(recursive=True)}
        self._cpu: dict[tuple[int, float], float] = {}
        self.begin = time.time()
        self.samples: list[tuple[float, float]] = []
        self.marks: list[Mark] = []
        self.peak_rss = self.pss = 0

    def look(self) -> None:
        """Take one sample; about once a second is enough."""
        rss, alive = 0, []
        for process in psutil.Process().children(recursive=True):
            if process.pid in self._not_ours:
                continue
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    rss += process.memory_info().rss
                    self._cpu[process.pid, process.create_time()] = times.user + times.system
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            alive.append(process)
        self.samples.append((time.time(), sum(self._cpu.values())))
        self.peak_rss = max(self.peak_rss, rss)
        if self._step_has_ended() and not self.pss and self.marks[-1].steps >= 2:
            self.pss = sum(map(_proportional, alive))

    def _step_has_ended(self) -> bool:
        if not self._metrics.exists():
            return False
        ended = self._metrics.stat().st_mtime  # before the lines are read: a line that is written now comes next time
        taken = progress.read_steps(self._metrics)
        steps = sum("timing_s/step" in data for data in taken.values())
        if steps <= (self.marks[-1].steps if self.marks else 0):
            return False
        self.marks.append(Mark(steps, ended))
        return True

    def summary(self, step_seconds: Sequence[float]) -> dict[str, float | None]:
        """What the watch saw of a run whose steps took `step_seconds`.

        Start-up is the time from the command to the first step; a step is seen when it has ended.
        """
        startup = None
        if self.marks:
            first = self.marks[0]
            startup = first.time - self.begin - sum(step_seconds[: first.steps])
        return {
            "startup_seconds": startup,
            "first_step_done_seconds": None if startup is None else startup + step_seconds[0],
            "cpu_seconds_per_step": cpu_seconds_per_step(self.samples, self.marks, len(step_seconds)),
            "peak_rss_gb": self.peak_rss / 1e9,
            "pss_gb": self.pss / 1e9 or None,
        }


def _proportional(process: psutil.Process) -> int:
    """Proportional set size in bytes; 0 where the kernel does not tell."""
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
