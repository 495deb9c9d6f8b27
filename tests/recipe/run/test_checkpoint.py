"""Checkpoints are whole or absent: a kill half way, a full disk, the number kept. verl's writing is faked."""

from __future__ import annotations

import gc
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf

pytestmark = pytest.mark.seam
MB = 1_000_000


class Killed(BaseException):
    """As a kill: nothing of the code below it runs any more."""


class Writer:
    """verl's `PPOTrainer._save_checkpoint`, as far as files and settings are concerned."""

    def __init__(self, folder: Path, keep: int | None = 2, size: int = 100):
        keys = {"max_actor_ckpt_to_keep": keep, "max_critic_ckpt_to_keep": None, "default_local_dir": str(folder)}
        self.config = OmegaConf.create({"trainer": keys})
        self.size, self.global_steps, self.told = size, 0, []
        self.checkpoint_callback = self

    def on_save(self, checkpoint_dir: str, **_) -> None:
        self.told.append((checkpoint_dir, sorted(path.name for path in Path(checkpoint_dir).iterdir())))

    def _save_checkpoint(self) -> None:
        import torch

        assert self.config.trainer.max_actor_ckpt_to_keep is None  # verl would delete before it has written
        folder = Path(self.config.trainer.default_local_dir)
        step = folder / f"global_step_{self.global_steps}"
        step.mkdir(parents=True)
        torch.save(torch.zeros(self.size, dtype=torch.uint8), step / "actor")
        self.half_way()
        (step / "data.pt").write_text("data")
        (folder / "latest_checkpointed_iteration.txt").write_text(str(self.global_steps))
        self.checkpoint_callback.on_save(trainer=self, global_step=self.global_steps, checkpoint_dir=str(step))

    def half_way(self) -> None: ...

    def save(self, step: int) -> None:
        self.global_steps = step
        self._save_checkpoint()


@pytest.fixture
def trainer_class():
    from recipe.mer_r1.run.checkpoint import CheckpointMixin

    return type("Trainer", (CheckpointMixin, Writer), {})


def state(folder: Path) -> dict[str, str]:
    """What stands in the folder, and what the tracker names."""
    found = {path.name: ",".join(sorted(file.name for file in path.iterdir())) for path in folder.glob("*_*/")}
    tracker = folder / "latest_checkpointed_iteration.txt"
    return {name: files for name, files in found.items() if name != tracker.name} | {"newest": tracker.read_text()}


def test_the_last_ones_are_kept_also_those_of_an_earlier_run(trainer_class, tmp_path) -> None:
    trainer_class(tmp_path).save(2)
    trainer = trainer_class(tmp_path)
    trainer.save(4)
    trainer.save(10)
    assert state(tmp_path) == {
        "global_step_4": "actor,data.pt",
        "global_step_10": "actor,data.pt",
        "newest": "10",
    }
    assert trainer.told == [(str(tmp_path / f"global_step_{step}"), ["actor", "data.pt"]) for step in (4, 10)]
    assert trainer.config.trainer.max_actor_ckpt_to_keep == 2
    assert {path.name for path in tmp_path.iterdir()} == {*state(tmp_path), "latest_checkpointed_iteration.txt"} - {
        "newest"
    }


def test_a_kill_half_way_leaves_the_old_one_even_where_one_is_kept(trainer_class, tmp_path) -> None:
    trainer = trainer_class(tmp_path, keep=1)
    trainer.save(2)

    def kill() -> None:
        raise Killed

    trainer.half_way = kill
    with pytest.raises(Killed):
        trainer.save(4)
    assert state(tmp_path) == {"global_step_2": "actor,data.pt", "newest": "2"}
    again = trainer_class(tmp_path, keep=1)
    again.save(4)
    assert state(tmp_path) == {"global_step_4": "actor,data.pt", "newest": "4"}


def test_going_on_from_an_older_one_writes_its_steps_again_and_leaves_later_ones(trainer_class, tmp_path) -> None:
    trainer = trainer_class(tmp_path)
    for step in (2, 4, 6):
        trainer.save(step)
    trainer.size = 50_000
    trainer.save(4)
    assert state(tmp_path)["newest"] == "4"
    assert (tmp_path / "global_step_4" / "actor").stat().st_size > 50_000
    assert (tmp_path / "global_step_6").exists()
    assert not (tmp_path / "unfinished").exists()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_leaves_the_old_one_and_says_so(trainer_class, small_disk) -> None:
    from recipe.mer_r1.run.checkpoint import CheckpointError

    folder = small_disk / "checkpoints"
    trainer = trainer_class(folder, size=2 * MB)
    trainer.save(2)
    with pytest.raises(CheckpointError) as caught:
        trainer.save(4)
    text = str(caught.value)
    del caught  # its frames hold the deleted file open, which keeps the disk full; a run has ended by now
    gc.collect()
    assert f"cannot write the checkpoint of step 4 to {folder}" in text
    assert (
        "global_step_2 needs 2 MB. Checkpoint global_step_2 is complete: free some disk space, and run the same" in text
    )
    assert state(folder) == {"global_step_2": "actor,data.pt", "newest": "2"}
    assert [path.name for path in folder.glob("unfinished*")] == []
    trainer.size = MB // 2  # room was made
    trainer.save(4)
    assert state(folder)["newest"] == "4"


def test_a_full_disk_at_the_first_checkpoint(trainer_class, small_disk) -> None:
    from recipe.mer_r1.run.checkpoint import CheckpointError

    with pytest.raises(CheckpointError, match="There is no earlier checkpoint") as caught:
        trainer_class(small_disk, size=4 * MB).save(2)
    del caught
    gc.collect()
