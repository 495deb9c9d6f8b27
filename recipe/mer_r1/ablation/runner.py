"""Makes what is missing of a table: its stages as they become ready, several at a time, and a record for each run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from recipe.mer_r1.ablation import collect, record
from recipe.mer_r1.ablation.plan import Plan, Run
from recipe.mer_r1.files.alone import alone as only_process
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.pipeline import process, stamps
from recipe.mer_r1.pipeline.screen import Screen
from recipe.mer_r1.pipeline.stage import Stage
from recipe.mer_r1.pipeline.stage_run import Places, StageError, StageRun, begin
from recipe.mer_r1.pipeline.stamps import Stamp


@dataclass
class Work:
    """Stages in the order in which they are wanted, and whose they are.

    Attributes:
        stages: each once, behind what it builds on.
        owner: of a stage's name, the run that it belongs to; none for corpora and bases.
        runs: that end in a record, by name.
    """

    stages: list[Stage] = field(default_factory=list)
    owner: dict[str, Run] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)

    def unit(self, stage: Stage) -> str:
        """Its line on the screen: that of its run, or its own."""
        return self.owner[stage.name].name if stage.name in self.owner else stage.name

    @property
    def units(self) -> dict[str, str]:
        """Lines of the screen with their titles, in order."""
        return {self.unit(stage): self.unit(stage).replace("-", " ") for stage in self.stages}


def work(plan: Plan, runs: Sequence[Run]) -> Work:
    """All stages that these runs and starts need, each once, in the order of the runs."""
    found = Work(runs={run.name: run for run in runs})
    for run in runs:
        for stage in plan.stages_before(run):
            _add(found, stage, None)
        for stage in run.stages:
            _add(found, stage, run)
    return found


def _add(found: Work, stage: Stage, run: Run | None) -> None:
    if stage.name not in {one.name for one in found.stages}:
        found.stages.append(stage)
    if run is not None:
        found.owner[stage.name] = run


def alone(out: Path) -> AbstractContextManager[None]:
    """While inside, no other process makes runs in the folder.

    Raises:
        InputError: another process does.
    """
    refusal = f"{out}: another `ablation run` writes to this folder; wait for it, or choose another --out"
    return only_process(out / ".lock", InputError(refusal))


class Runner:
    """Runs the stages of some work.

    Args:
        work: what is wanted.
        out: folder of all runs.
        results: folder of the records.
        jobs: commands at a time.
        redo: whether stages that were made with other settings are made again.
    """

    def __init__(self, work: Work, out: Path, results: Path, screen: Screen, jobs: int, redo: bool = False):
        self._work, self._places, self._results = work, Places(out), results
        self._screen, self._jobs, self._redo = screen, jobs, redo
        self._done: dict[str, Stamp] = {}
        self._running: dict[str, StageRun] = {}
        self._errors: dict[str, StageError] = {}
        self.finished: list[str] = []
        self.failed: dict[str, str] = {}
        """Runs, and shared stages, by name with the reason."""

    def run(self) -> None:
        """Everything that can be made. Ctrl-C, and any error of this program, ends all commands first."""
        try:
            while True:
                self._reap()
                self._start_ready()
                if not self._running:
                    return
                self._look()
                time.sleep(process.POLL_SECONDS)
        except BaseException:
            process.stop_all([running.command for running in self._running.values()])
            for name, running in self._running.items():
                stamp = running.finish()
                self._screen.end(self._work.unit(self._stage(name)), "stopped", stamp.seconds)
            raise

    def _stage(self, name: str) -> Stage:
        return next(stage for stage in self._work.stages if stage.name == name)

    def _start_ready(self) -> None:
        """Start what is wanted first and has all its inputs, while there is room; what is done already needs none."""
        for stage in self._work.stages:
            name = stage.name
            if name in self._done or name in self._running or name in self._errors:
                continue
            if lost := [before for before in stage.after if before in self._errors]:
                reason = f"it needs {lost[0]}, which failed"
                self._errors[name] = StageError(reason, [], self._places.log(stage))
                self._say_failed(stage, self._errors[name])
            elif all(before in self._done for before in stage.after) and len(self._running) < self._jobs:
                self._begin(stage)

    def _begin(self, stage: Stage) -> None:
        try:
            stamp = begin(stage, self._key(stage), self._places, replace=self._redo)
        except StageError as error:
            self._fail(stage, error)
            return
        if stamp.finished:
            self._done[stage.name] = stamp
            self._after(stage, kept=True)
            return
        running = StageRun(stage, stamp, self._places)
        self._running[stage.name] = running
        self._screen.begin(self._work.unit(stage), stamp.command, running.resumed)

    def _key(self, stage: Stage) -> str:
        return stamps.key_of([*stage.command, stage.settings], [self._done[name] for name in stage.after], ())

    def _look(self) -> None:
        self._screen.footer = self._outlook()
        for name, running in self._running.items():
            status = running.look()
            kind = name.partition("-")[0]
            shown = replace(status, text=f"{kind}  {status.text}".rstrip())
            self._screen.update(self._work.unit(running.stage), shown, running.seconds)

    def _reap(self) -> None:
        """Take those that have ended off the list."""
        for name, running in list(self._running.items()):
            if running.command.poll() is None:
                continue
            del self._running[name]
            stamp = running.finish()
            if stamp.finished:
                self._done[name] = stamp
                self._after(running.stage)
            else:
                self._fail(running.stage, running.failure())

    def _fail(self, stage: Stage, error: StageError) -> None:
        """Note that a stage failed. An optional one leaves numbers out; another one fails its run."""
        self._errors[stage.name] = error
        run = self._work.owner.get(stage.name)
        if run and stage.name in run.optional:
            self._after(stage)
            return
        if run and run.name in self._work.runs:
            record.write(self._results, run.name, collect.failed(run, str(error), error.lines))
        self._say_failed(stage, error)

    def _say_failed(self, stage: Stage, error: StageError) -> None:
        """The first failure of a run counts: the stages behind it cannot run."""
        unit = self._work.unit(stage)
        first = unit not in self.failed
        self.failed.setdefault(unit, str(error))
        if first:
            self._screen.end(unit, "failed", 0.0)
            self._screen.console.print(f"{unit}: {error}", *error.lines[-3:], sep="\n  ", markup=False, soft_wrap=True)

    def _after(self, stage: Stage, kept: bool = False) -> None:
        """A stage is done: write the record where it was the last one of its run."""
        run, unit = self._work.owner.get(stage.name), self._work.unit(stage)
        if run is None:
            self._screen.end(unit, "kept" if kept else "done", self._done[stage.name].seconds)
            return
        ended = [one.name in self._done or one.name in self._errors for one in run.stages]
        if run.name not in self._work.runs or not all(ended):
            return
        errors = [self._errors[name] for name in run.optional if name in self._errors]
        notes = [" ".join([str(error), *error.lines[-1:]]) for error in errors]
        try:
            found = collect.finished(run, self._done[run.stages[0].name].seconds, notes)
        except (OSError, ValueError, KeyError) as error:
            fault = StageError(f"its record could not be made: {error}", [], self._places.log(stage))
            record.write(self._results, run.name, collect.failed(run, str(fault), []))
            self._say_failed(stage, fault)
            return
        record.write(self._results, run.name, found)
        self.finished.append(run.name)
        self._screen.footer = self._outlook()
        seconds = sum(self._done[one.name].seconds for one in run.stages if one.name in self._done)
        self._screen.end(unit, "done", seconds)

    def _outlook(self) -> str:
        """How many runs are done, and how long the rest may take by what such stages took so far."""
        count = f"{len(self.finished)} of {len(self._work.runs)} done"
        count += f", {len(self.failed)} failed" if self.failed else ""
        left = self._seconds_left()
        if left is None:
            return count
        hours, minutes = divmod(round(left / 60), 60)
        return f"{count}; about {f'{hours} h ' if hours else ''}{minutes} min left"

    def _seconds_left(self) -> float | None:
        """None while a kind of stage that is still to come has not been seen."""
        known: dict[str, list[float]] = {}
        for name, stamp in self._done.items():
            known.setdefault(_kind(name), []).append(stamp.seconds)
        for name, running in self._running.items():
            status = running.status
            if status.step_seconds is not None and status.total:
                whole = running.seconds + (status.total - (status.done or 0)) * status.step_seconds
                known.setdefault(_kind(name), []).append(whole)
        left = 0.0
        for stage in self._work.stages:
            if stage.name in self._done or stage.name in self._errors:
                continue
            if _kind(stage.name) not in known:
                return None
            spent = self._running[stage.name].seconds if stage.name in self._running else 0.0
            left += max(0.0, statistics.fmean(known[_kind(stage.name)]) - spent)
        return left / min(self._jobs, max(1, len(self._work.stages) - len(self._done)))


def _kind(name: str) -> str:
    """rl, sft, eval, … of a stage's name."""
    return name.partition("-")[0]
