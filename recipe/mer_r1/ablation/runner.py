"""Makes what is missing of a table: its stages as they become ready, several at a time, and a record for each run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from recipe.mer_r1.ablation import collect, record
from recipe.mer_r1.ablation.outlook import kind_of, seconds_left
from recipe.mer_r1.ablation.plan import Run
from recipe.mer_r1.ablation.work import Work
from recipe.mer_r1.pipeline.progress import Status
from recipe.mer_r1.pipeline.schedule import Schedule
from recipe.mer_r1.pipeline.screen import Screen
from recipe.mer_r1.pipeline.stage import Stage
from recipe.mer_r1.pipeline.stage_run import StageError


class Runner(Schedule):
    """Runs the stages of some work. A stage that fails ends its run, and no other one.

    Args:
        work: what is wanted.
        out: folder of all runs.
        results: folder of the records.
        jobs: commands at a time, and so many evaluations beside them.
        redo: whether stages that were made with other settings are made again.

    Attributes:
        finished: names of the runs that were recorded as finished.
        failed: runs, and shared stages, by name with the reason.
    """

    def __init__(self, work: Work, out: Path, results: Path, jobs: int, redo: bool = False):
        super().__init__(out, work.stages, jobs, replace=redo)
        self._work, self._results = work, results
        self.finished: list[str] = []
        self.failed: dict[str, str] = {}

    def line(self, stage: Stage) -> str:
        return self._work.unit(stage)

    def shown(self, stage: Stage, status: Status) -> Status:
        return replace(status, text=f"{kind_of(stage.name)}  {status.text}".rstrip())

    def footer(self) -> str:
        """How many runs are done, and how long the rest may take."""
        count = f"{len(self.finished)} of {len(self._work.runs)} done"
        count += f", {len(self.failed)} failed" if self.failed else ""
        left = seconds_left(self.stages, self.done, self._running, self.errors, self._jobs)
        if left is None:
            return count
        hours, minutes = divmod(round(left / 60), 60)
        return f"{count}; about {f'{hours} h ' if hours else ''}{minutes} min left"

    def on_end(self, stage: Stage, screen: Screen, kept: bool) -> None:
        run = self._work.owner.get(stage.name)
        if run is None:
            screen.end(self.line(stage), "kept" if kept else "done", self.done[stage.name].seconds)
        else:
            self._record_if_over(run, screen)

    def on_failure(self, stage: Stage, error: StageError, screen: Screen, seconds: float) -> None:
        """An optional stage leaves numbers out; another one fails its run. One that could not begin failed nothing."""
        run = self._work.owner.get(stage.name)
        began = not any(before in self.errors for before in stage.after)
        if run and began and stage.name in run.optional:
            self._record_if_over(run, screen)
            return
        if run and began:
            record.write(self._results, run.name, collect.failed(run, str(error), error.lines))
        self._say_failed(stage, error, screen, seconds)

    def _record_if_over(self, run: Run, screen: Screen) -> None:
        """Write the record of a run whose last stage has ended."""
        over = all(one.name in self.done or one.name in self.errors for one in run.stages)
        if not over:
            return
        errors = [self.errors[name] for name in run.optional if name in self.errors]
        notes = [" ".join([str(error), *error.lines[-1:]]) for error in errors]
        seconds = sum(self.done[one.name].seconds for one in run.stages if one.name in self.done)
        try:
            found = collect.finished(run, self.done[run.stages[0].name].seconds, notes)
        except (OSError, ValueError, KeyError) as error:
            last = run.stages[-1]
            fault = StageError(f"its record could not be made: {error}", [], self.places.log(last))
            record.write(self._results, run.name, collect.failed(run, str(fault), []))
            self._say_failed(last, fault, screen, seconds)
            return
        record.write(self._results, run.name, found)
        self.finished.append(run.name)
        screen.footer = self.footer()
        screen.end(run.name, "done", seconds)

    def _say_failed(self, stage: Stage, error: StageError, screen: Screen, seconds: float) -> None:
        """The first failure of a run counts: the stages behind it cannot run."""
        line = self.line(stage)
        if line in self.failed:
            return
        self.failed[line] = str(error)
        screen.end(line, "failed", seconds)
        screen.console.print(f"{line}: {error}", *error.lines[-3:], sep="\n  ", markup=False, soft_wrap=True)
