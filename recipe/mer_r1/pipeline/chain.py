"""Stages of which each is wanted: the first that fails ends the chain."""

from __future__ import annotations

from pathlib import Path

from recipe.mer_r1.pipeline.schedule import Schedule
from recipe.mer_r1.pipeline.screen import Screen
from recipe.mer_r1.pipeline.stage import Stage
from recipe.mer_r1.pipeline.stage_run import StageError


class Chain(Schedule):
    """A folder and the stages that fill it. `run` raises the StageError of the first that fails."""

    def __init__(self, out: Path, stages: list[Stage]):
        super().__init__(out, stages)

    def on_end(self, stage: Stage, screen: Screen, kept: bool) -> None:
        screen.end(stage.name, "kept" if kept else "done", self.done[stage.name].seconds)

    def on_failure(self, stage: Stage, error: StageError, screen: Screen, seconds: float) -> None:
        screen.end(stage.name, "failed", seconds)
        raise error
