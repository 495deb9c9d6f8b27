"""The stages that some runs need, each once, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from recipe.mer_r1.ablation.plan import Plan, Run
from recipe.mer_r1.pipeline.stage import Stage


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
