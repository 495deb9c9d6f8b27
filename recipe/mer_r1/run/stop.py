"""Stop on a signal: the run finishes its step, saves it and ends with exit code 75; the same command goes on.

For batch systems, which warn a job before its time is over. The driver (SFT: the first rank) hears SIGUSR1 and leaves a
file in the run's folder; the trainer, in RL a Ray actor that may live on another node, looks for the file after every
step. `touch RUN_DIR/stop` by hand does the same.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recipe.mer_r1.files import exits
from recipe.mer_r1.run import output

EXIT_CODE = exits.STOPPED
FILE = "stop"


class Stopped(SystemExit):
    """The run has ended because it was asked to."""


@contextmanager
def on_signal(run_dir: str | Path, program: str, exit_code: int = EXIT_CODE) -> Iterator[None]:
    """While inside, SIGUSR1 to this process asks the run to stop.

    Raises:
        Stopped: with `exit_code`, on leaving, where the run has ended because it was asked to.
    """
    file = Path(run_dir) / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)  # of an earlier run

    def ask(*_: Any) -> None:
        file.touch()
        output.say_at_once(f"{program}: asked to stop; the run ends when the current step is done and saved.\n")

    before = signal.signal(signal.SIGUSR1, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)
        step = file.read_text() if file.exists() else ""
        file.unlink(missing_ok=True)
    if step:
        output.say(f"{program}: stopped on request at step {step}; run the same command again to continue.")
        raise Stopped(exit_code)


class StopMixin:
    """For any of verl's V1 trainers: ends its loop after the step in which the file has come."""

    stopped: bool = False
    """Whether the loop was ended before its last step."""

    @property
    def _stop_file(self) -> Path:
        return Path(self.config.run_dir) / FILE

    def on_train_begin(self) -> None:
        super().on_train_begin()
        if self._stop_file.exists():  # it came while the workers started: nothing to save
            self._stop_after(self.global_steps - 1)

    def on_step_end(self) -> None:
        if self.global_steps < self.total_training_steps and self._stop_file.exists():
            if self.global_steps % self.config.trainer.save_freq:
                self._save_checkpoint()
            self._stop_after(self.global_steps)
        super().on_step_end()

    def _stop_after(self, step: int) -> None:
        """verl's loop runs while its step is not over `total_training_steps`; it neither validates nor saves again."""
        self.total_training_steps = step
        self.stopped = True
        self._stop_file.write_text(str(step))
