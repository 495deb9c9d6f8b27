"""How far a running stage is, read from what it writes anyway: its files, its metrics, its log."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recipe.mer_r1.run import state, steps

_OF_TOTAL = re.compile(rb"\bstep (\d+)/(\d+)")
# What main_ppo's log says as it starts, and what it is busy with from there on.
_STARTING = (
    (b"", "checking the inputs"),
    (b"Started a local Ray instance", "Ray is up, starting the trainer"),
    (b"create worker group", "loading the actor and the reference"),
    (b"reward loop manager initialized", "starting vLLM"),
    (b"ready to fit", "first validation"),
    (b"Initial validation metrics", "first step"),
)
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
        done = sum(1 for split in ("base", "train", "test") for _ in (corpus / split / "audio").glob("*.wav"))
        return Status(done, total, f"{done}/{total} clips")

    return watch


def answers(folder: Path, total: int | None) -> Watch:
    """Counts the answers written."""

    def watch(_log: Path) -> Status:
        done = sum(file.read_bytes().count(b"\n") for file in folder.glob("*.jsonl"))
        of_total = f"/{total}" if total else ""
        return Status(done, total, f"{done}{of_total} answers" if done else "loading the model")

    return watch


def answers_to(folder: Path, shard: Path, per_clip: int) -> Watch:
    """Counts the answers written, of so many for each clip of a shard that may not be there yet."""

    def watch(log: Path) -> Status:
        total = per_clip * state.shard_rows([str(shard)]) if shard.exists() else None
        return answers(folder, total)(log)

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

    def watch(log: Path) -> Status:
        found = read_steps(run_dir / "metrics.jsonl")
        taken = {step: data for step, data in found.items() if "timing_s/step" in data}  # a validation is written first
        if not taken:
            said = log.read_bytes() if log.exists() else b""
            return Status(0, total, [text for mark, text in _STARTING if mark in said][-1])
        step = max(taken)
        seconds = statistics.median(data["timing_s/step"] for data in taken.values())
        f1, recall, precision, form = (
            _mean(taken, f"reward/{name}") for name in ("f1", "recall", "precision", "format")
        )
        text = f"F1 {f1:.2f}  {seconds:.1f} s/step  R {recall:.2f}  P {precision:.2f}  format {form:.2f}"
        return Status(step, total, text, taken[step]["timing_s/step"])

    return watch


def read_steps(path: Path) -> dict[int, dict[str, float]]:
    """The training steps of a metrics file, by number; step 0 is a validation."""
    return {step: data for step, data in steps.read(path).items() if step > 0} if path.exists() else {}


def _mean(taken: dict[int, dict[str, float]], key: str) -> float:
    latest = [data[key] for data in list(taken.values())[-_LATEST:] if key in data]
    return statistics.fmean(latest) if latest else float("nan")
