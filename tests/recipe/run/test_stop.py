"""Stop on a signal, without Ray: what the driver does with the signal, and what verl's loop then does."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from recipe.mer_r1.run import stop


class Loop:
    """The loop of verl's `PPOTrainer.fit`, as far as stopping is concerned."""

    def __init__(self, run_dir: Path, every: int | None, done: int = 0):
        self.config = OmegaConf.create({"run_dir": str(run_dir), "trainer": {"save_freq": every}})
        self.total_training_steps, self.global_steps = 6, done
        self.taken, self.saved = [], []

    def on_train_begin(self) -> None: ...

    def on_step_end(self) -> None: ...

    def _save_checkpoint(self) -> None:
        self.saved.append(self.global_steps)

    def fit(self, ask_at: int | str | None = None) -> None:
        self.global_steps += 1
        if ask_at == "start":
            os.kill(os.getpid(), signal.SIGUSR1)
        self.on_train_begin()
        while self.global_steps <= self.total_training_steps:
            last = self.global_steps >= self.total_training_steps
            self.taken.append(self.global_steps)
            if self.global_steps == ask_at:
                os.kill(os.getpid(), signal.SIGUSR1)
            if last or self.global_steps % self.config.trainer.save_freq == 0:
                self._save_checkpoint()
            self.on_step_end()
            self.global_steps += 1


class Trainer(stop.StopMixin, Loop):
    pass


@pytest.mark.parametrize(("every", "saved"), [(4, [3]), (3, [3]), (2, [2, 3])])
def test_the_step_of_the_signal_is_the_last_and_is_saved_once(tmp_path, capsys, every, saved) -> None:
    trainer = Trainer(tmp_path / "run", every)
    with pytest.raises(SystemExit) as exit, stop.on_signal(tmp_path / "run", "main_ppo"):
        trainer.fit(ask_at=3)
    assert exit.value.code == 75
    assert "stopped on request at step 3; run the same command again to continue" in capsys.readouterr().err
    assert (trainer.taken, trainer.saved, trainer.stopped) == ([1, 2, 3], saved, True)
    assert list((tmp_path / "run").iterdir()) == []


def test_a_signal_during_the_last_step_changes_nothing(tmp_path) -> None:
    trainer = Trainer(tmp_path, 4)
    with stop.on_signal(tmp_path, "main_ppo"):
        trainer.fit(ask_at=6)
    assert (trainer.saved, trainer.stopped) == ([4, 6], False)
    assert list(tmp_path.iterdir()) == []


def test_a_signal_before_the_first_step_saves_nothing(tmp_path, capsys) -> None:
    trainer = Trainer(tmp_path, 4, done=2)
    with pytest.raises(SystemExit), stop.on_signal(tmp_path, "main_ppo"):
        trainer.fit(ask_at="start")
    assert "at step 2" in capsys.readouterr().err
    assert (trainer.taken, trainer.saved) == ([], [])


def test_a_file_of_an_earlier_run_stops_nothing_and_an_error_stays_an_error(tmp_path) -> None:
    (tmp_path / stop.FILE).write_text("3")
    trainer = Trainer(tmp_path, 4)
    before = signal.getsignal(signal.SIGUSR1)
    with stop.on_signal(tmp_path, "main_ppo"):
        trainer.fit()
    assert len(trainer.taken) == 6
    trainer = Trainer(tmp_path, every=None)  # fails after the signal
    with pytest.raises(TypeError), stop.on_signal(tmp_path, "main_ppo"):
        trainer.fit(ask_at=1)
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGUSR1) is before
