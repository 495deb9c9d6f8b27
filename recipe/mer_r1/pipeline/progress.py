"""How far a running command is, read from what it writes anyway: its files, its metrics, its log."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recipe.mer_r1.run import output, state, steps
from recipe.mer_r1.run.sft_scoring import scores_at

_OF_TOTAL = re.compile(rb"\bstep (\d+)/(\d+)")
# What a log says as a command starts, and what the command is busy with from there on.
_RL_STARTING = (
    (b"", "checking the inputs"),
    (b"[validate_config]", "starting Ray"),
    (b"Started a local Ray instance", "starting the trainer"),
    (b"Connecting to existing Ray cluster", "starting the trainer"),
    (b"create worker group", "loading the actor and the reference"),
    (b"reward loop manager initialized", "starting vLLM"),
    (b"ready to fit", "first step"),
)
_VALIDATING = ((b"ready to fit", "first validation"), (b"Initial validation metrics", "first step"))
_SFT_STARTING = (
    (b"", "checking the inputs"),
    (b"Loading weights", "loading the model"),
    (b"Total steps:", "first step"),
)
_SCORED = "perf/score_seconds"  # of a step after which an SFT run has scored answers
_LATEST = 5  # steps that a shown mean is taken over
_TIMED = 20  # steps that the time of a step is taken over
TRAINING, WRITING, SCORING = "training", "writing the model", "answering validation clips"


@dataclass(frozen=True)
class Status:
    """What the screen shows of a running stage.

    Attributes:
        done, total: units of work; None where unknown.
        text: e.g. the loss.
        step_seconds: of the last step, where the stage takes steps.
        phase: what the command is busy with; without a terminal, each new one is a line.
    """

    done: int | None = None
    total: int | None = None
    text: str = ""
    step_seconds: float | None = None
    phase: str = ""


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


def sft(run_dir: Path, total: int | None = None, score_every: int = 0) -> Watch:
    """Step, loss, F1 of the latest scored answers, seconds a step and the time that is left.

    Args:
        total: number of steps; None: as the trainer prints it into its log.
        score_every: steps between two scorings of validation clips (`preset.sft.score_every`); 0: none.
    """

    begun = _Begun(run_dir, _SFT_STARTING)

    def watch(log: Path) -> Status:
        taken = read_steps(run_dir / "metrics.jsonl")
        if phase := begun.waits_for(log, max(taken, default=0)):
            return Status(max(taken, default=0), total, phase, phase=phase)
        step = max(taken)
        seconds = [data["perf/step_seconds"] for data in taken.values() if "perf/step_seconds" in data]
        of, text = total or _total_in(run_dir, log), f"loss {_mean(taken, 'train/loss'):.3f}"
        if scores_at(score_every, step, of) and _SCORED not in taken[step]:
            return Status(step, of, f"{text}  {SCORING}", phase=SCORING)
        return _at_step(step, of, seconds, text, _scored_f1(taken))

    return watch


def _scored_f1(taken: dict[int, dict[str, float]]) -> str:
    """F1 of the newest scored answers, the plain mean over the sources; "" where none was scored."""
    newest = next((data for data in reversed(taken.values()) if _SCORED in data), {})
    found = {
        mode: [value for key, value in newest.items() if key.startswith("val-aux/") and f"/{mode}/f1/" in key]
        for mode in ("slow", "fast")
    }
    return "  ".join(f"{mode} F1 {statistics.fmean(values):.2f}" for mode, values in found.items() if values)


def rl(run_dir: Path, total: int | None, validates: bool = False) -> Watch:
    """Step, rewards (mean of the latest steps), seconds a step and the time that is left.

    Args:
        total: number of steps; None where unknown.
        validates: whether the run validates before its first step.
    """
    begun = _Begun(run_dir, (*_RL_STARTING, *_VALIDATING) if validates else _RL_STARTING)

    def watch(log: Path) -> Status:
        found = read_steps(run_dir / "metrics.jsonl")
        taken = {step: data for step, data in found.items() if "timing_s/step" in data}  # a validation is written first
        if phase := begun.waits_for(log, max(taken, default=0)):
            return Status(max(taken, default=0), total, phase, phase=phase)
        seconds = [data["timing_s/step"] for data in taken.values()]
        f1, recall, precision, form = (
            f"{name} {_mean(taken, f'reward/{key}'):.2f}"
            for name, key in (("F1", "f1"), ("R", "recall"), ("P", "precision"), ("format", "format"))
        )
        return _at_step(max(taken), total, seconds, f1, f"{recall}  {precision}  {form}")

    return watch


class _Begun:
    """Whether a run takes steps yet. One that goes on has steps of before, and has to start all the same."""

    def __init__(self, run_dir: Path, marks: Sequence[tuple[bytes, str]]):
        self._run_dir, self._marks = run_dir, marks
        self._seen, self._first = False, -1

    def waits_for(self, log: Path, step: int) -> str:
        """What it is busy with before its first step; "" from there on.

        Args:
            step: the last one taken, perhaps by an earlier start; 0 for none.
        """
        self._first = step if self._first < 0 else self._first
        if step > self._first or (self._seen and step):
            return ""
        said = _said(self._run_dir, log)
        phase = [text for mark, text in self._marks if mark in said][-1]
        # Without a word of a log, its steps are all that is known of it.
        self._seen = not said or phase == self._marks[-1][1]
        return "" if self._seen and step else phase


def _at_step(step: int, total: int | None, seconds: Sequence[float], text: str, more: str = "") -> Status:
    """Args: seconds: of the steps so far; text, more: before and behind the times."""
    if not seconds:
        return Status(step, total, f"{text}  {more}".rstrip(), phase=TRAINING)
    each = statistics.median(seconds[-_TIMED:])
    over = total is not None and step >= total
    left, phase = "", WRITING if over else TRAINING
    if total and not over:
        left = f"{in_words(each * (total - step))} left"
    parts = [text, f"{each:.1f} s/step", left, more]
    return Status(step, total, "  ".join(part for part in parts if part), seconds[-1], phase)


def in_words(seconds: float) -> str:
    """A time that is estimated, as "40 s", "12 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _said(run_dir: Path, log: Path) -> bytes:
    """What the latest start of the command wrote: into its folder's log, or, if verbose, on the screen."""
    own = run_dir / output.LOG
    found = (own if own.exists() else log).read_bytes() if own.exists() or log.exists() else b""
    return found[max(0, found.rfind(b"\n" + output.START.encode())) :]


def _total_in(run_dir: Path, log: Path) -> int | None:
    found = _OF_TOTAL.findall(_said(run_dir, log))
    return int(found[-1][1]) if found else None


def read_steps(path: Path) -> dict[int, dict[str, float]]:
    """The training steps of a metrics file, by number; step 0 is a validation."""
    if not path.exists():
        return {}
    written = path.stat()
    stamp = written.st_size, written.st_mtime_ns
    if path not in _read or _read[path][0] != stamp:
        _read[path] = stamp, {step: data for step, data in steps.read(path).items() if step > 0}
    return _read[path][1]


_read: dict[Path, tuple[tuple[int, int], dict[int, dict[str, float]]]] = {}
"""The newest reading of each file: a screen looks twice a second, and a long run's file has tens of MB and grows once a
step. Older readings are not kept."""


def _mean(taken: dict[int, dict[str, float]], key: str) -> float:
    latest = [data[key] for data in list(taken.values())[-_LATEST:] if key in data]
    return statistics.fmean(latest) if latest else float("nan")
