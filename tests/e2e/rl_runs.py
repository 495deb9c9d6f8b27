"""Runs of `main_ppo` in processes of their own, and what they leave behind; used by several end-to-end tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from recipe.mer_r1.run import output, steps

ROOT = Path(__file__).parents[2]
START_SECONDS, END_SECONDS = 900, 90
PEACE_STEPS = 6
"""Of the run that nothing happens to."""
SHARED_MEMORY = Path("/dev/shm")


def children() -> set[psutil.Process]:
    """Living processes below this one. Orphans are, too: see `nothing_stays`."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                found.add(child)
    return found


def reap() -> None:
    """Wait for the dead among this process' children, adopted ones too, as init does."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def rings() -> set[str]:
    """Rings of vLLM and buckets of weights in shared memory that no process uses; other runs may have some in use."""
    found, used = {file.name for kind in ("psm_*", "verl_weights_*") for file in SHARED_MEMORY.glob(kind)}, set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            lines = maps.read_text().split("\n")
            used |= {line.split("/dev/shm/")[1].split()[0] for line in lines if "/dev/shm/" in line}
    return found - used


class Run:
    """`main_ppo` with two prompts a step, or what the overrides say; its screen goes to a file."""

    def __init__(self, run_dir: Path, model: Path, shards: dict[str, Path], *overrides: str):
        run_dir.mkdir(exist_ok=True)
        self.log = run_dir / "log"
        command = [
            *(sys.executable, "-m", "recipe.mer_r1.main_ppo", "preset=tiny", "experiment=baseline"),
            *(f"run_dir={run_dir}", f"preset.model_path={model}"),
            *(f"preset.train_files={shards['rl']}", f"preset.val_files={shards['test']}"),
            *("preset.prompts_per_step=2", "preset.micro_batch_tokens=512", "trainer.val_before_train=false"),
            *("preset.validate_every=-1", *overrides),
        ]
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"}
            )

    def wait(self, seconds: float) -> int:
        """Exit status; the end of the log is shown when the test fails."""
        try:
            return self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            print(self.text[-6000:])

    def await_step(self, step: int) -> None:
        """Until the step's metrics are written, which is after it was saved."""
        metrics = self.log.parent / "metrics.jsonl"
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if metrics.exists() and step in steps.read(metrics):
                return
            time.sleep(0.1)
        self.process.kill()
        pytest.fail(f"step {step} was not reached:\n{self.text[-6000:]}")

    @property
    def text(self) -> str:
        """The screen, and what the run's own log has of the last start."""
        own = self.log.parent / output.LOG
        complete = own.read_text(errors="replace") if own.exists() else ""
        return self.log.read_text(errors="replace") + complete[max(0, complete.rfind(f"\n{output.START}")) :]


def shards_of(corpus: Path) -> dict[str, Path]:
    return {split: corpus / "shards" / f"{split}.parquet" for split in ("rl", "test")}


def deterministic(out: Path, model: Path, corpus: Path, last: int = PEACE_STEPS) -> Run:
    """MER-R1 that gives the same bits each time, with all its batches and checkpoints."""
    return Run(
        *(out, model, shards_of(corpus), "+profile=deterministic", "experiment=mer_r1", f"preset.steps={last}"),
        *("preset.save_every=1", "trainer.max_actor_ckpt_to_keep=null", f"trainer.rollout_data_dir={out / 'rollouts'}"),
        "mer_r1.dead_process_seconds=30",
    )


def process_of(run: Run, name: str) -> psutil.Process:
    """A process below the run's, by part of its name."""
    found = [child for child in psutil.Process(run.process.pid).children(True) if name in " ".join(child.cmdline())]
    return found[0]
