"""Runs stages one after the other: skips what is done, goes on with what was interrupted, keeps the stamps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recipe.mer_r1.pipeline import stamps
from recipe.mer_r1.pipeline.screen import Screen
from recipe.mer_r1.pipeline.stage import Stage
from recipe.mer_r1.pipeline.stage_run import Places, StageRun, begin
from recipe.mer_r1.pipeline.stamps import Stamp


@dataclass
class Chain:
    """A folder and the stages that fill it."""

    out: Path
    stages: list[Stage]

    def stamp_path(self, stage: Stage) -> Path:
        return Places(self.out).stamp(stage)

    def log_path(self, stage: Stage) -> Path:
        return Places(self.out).log(stage)

    def run(self, screen: Screen) -> dict[str, Stamp]:
        """All stages; their stamps by name.

        Raises:
            StageError: at the first that fails.
            KeyboardInterrupt: after the running stage and its processes have ended.
        """
        done: dict[str, Stamp] = {}
        for stage in self.stages:
            key = stamps.key_of(stage.command, [done[name] for name in stage.after], stage.conf)
            stamp = begin(stage, key, Places(self.out))
            if stamp.finished:
                screen.end(stage.name, "kept", stamp.seconds)
            else:
                stamp = self._execute(stage, stamp, screen)
            done[stage.name] = stamp
        return done

    def _execute(self, stage: Stage, stamp: Stamp, screen: Screen) -> Stamp:
        """Run the command; the stamp records every attempt, however it ends."""
        running = StageRun(stage, stamp, Places(self.out))
        screen.begin(stage.name, stamp.command, running.resumed)
        state = "stopped"
        try:
            stamp = running.wait(lambda: screen.update(stage.name, running.look(), running.seconds))
            state = "done" if stamp.finished else "failed"
        finally:
            screen.update(stage.name, running.status, running.stamp.seconds)
            screen.end(stage.name, state, running.stamp.seconds)
        if state == "failed":
            raise running.failure()
        return stamp
