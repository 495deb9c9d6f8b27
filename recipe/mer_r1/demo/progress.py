"""How far a running stage is, read from what it writes anyway: its files, its metrics, its log."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recipe.mer_r1 import steps

_OF_TOTAL = re.compile(rb"\bstep (\d+)/(\d+)")
_LATEST = 5  # steps that a shown mean is taken over


@dataclass(frozen=True)
class Status:
    """What the screen shows of a running stage.

    Attributes:
        done, total: units of work; None where unknown.
        text: e.g. the loss.
        step_seconds: of the last step, where the stage takes steps.
    """

    done: int | None = None
    total: int | None = None
    text: str = ""
    step_seconds: float | None = None


Watch = Callable[[Path], Status]
"""From the stage's log file to its status; called about once a second."""


def nothing(_log: Path) -> Status:
    """For a stage of seconds."""
    return Status()


def clips(corpus: Path, total: int) -> Watch:
    """Counts the clips made."""

    def watch(_log: Path) -> Status:
        done = sum(1 for split in ("train", "test") for _ in (corpus / split / "audio").glob("*.wav"))
        return Status(done, total, f"{done}/{total} clips")

    return watch


def answers(folder: Path, total: int | None) -> Watch:
    """Counts the answers written."""

    def watch(_log: Path) -> Status:
        done = sum(file.read_bytes().count(b"\n") for file in folder.glob("*.jsonl"))
        of_total = f"/{total}" if total else ""
        return Status(done, total, f"{done}{of_total} answers" if done else "loading the model")

    return watch


def sft(run_dir: Path) -> Watch:
    """Step and loss. The number of steps stands in the log, as the trainer prints it."""

    def watch(log: Path) -> Status:
        taken = read_steps(run_dir / "metrics.jsonl")
        if not taken:
            return Status(text="starting")
        step = max(taken)
        loss = _mean(taken, "train/loss")
        found = _OF_TOTAL.findall(log.read_bytes()) if log.exists() else []
        total = int(found[-1][1]) if found else None
        return Status(step, total, f"loss {loss:.3f}", taken[step].get("perf/step_seconds"))

    return watch


def rl(run_dir: Path, total: int) -> Watch:
    """Step, rewards (mean of the latest steps) and seconds a step."""

    def watch(_log: Path) -> Status:
        taken = read_steps(run_dir / "metrics.jsonl")
        if not taken:
            return Status(0, total, "starting Ray, FSDP and vLLM")
        step = max(taken)
        seconds = statistics.median(data["timing_s/step"] for data in taken.values())
        scores = "  ".join(
            f"{label} {_mean(taken, f'reward/{name}'):.2f}"
            for label, name in (("F1", "f1"), ("R", "recall"), ("P", "precision"), ("format", "format"))
        )
        return Status(step, total, f"{scores}  {seconds:.1f} s/step", taken[step]["timing_s/step"])

    return watch


def read_steps(path: Path) -> dict[int, dict[str, float]]:
    """The training steps of a metrics file, by number; step 0 is a validation."""
    return {step: data for step, data in steps.read(path).items() if step > 0} if path.exists() else {}


def _mean(taken: dict[int, dict[str, float]], key: str) -> float:
    latest = [data[key] for data in list(taken.values())[-_LATEST:] if key in data]
    return statistics.fmean(latest) if latest else float("nan")
