"""What the paper's analyses (Figures 3, 5 and 8) need of a folder besides scores: how many categories its answers have,
how sure the model was, and which hits of fast thinking slow thinking keeps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recipe.mer_r1.eval.answers import Answer, by_sample
from recipe.mer_r1.eval.confidence_files import FORMS, confidence_path, read_confidences
from recipe.mer_r1.eval.corpora import Task
from recipe.mer_r1.eval.results import Metric, Reading
from recipe.mer_r1.method.answer import ONE_ANSWER
from recipe.mer_r1.method.bootstrap import intervals
from recipe.mer_r1.method.retained import retained_hit_rate
from recipe.mer_r1.method.wheel import EmotionWheels


@dataclass(frozen=True)
class PerClip:
    """A mode's values clip by clip, NaN where undefined, in the order of the clips; means over a clip's answers.

    Attributes:
        values: `categories`, the mean number of an answer's categories on a wheel (Figure 3 b); where they were read,
            `truth` and `margin` (Eq. 2, nats).
        reading: how these were read.
        unread: why they are absent, and the way out.
    """

    values: dict[str, np.ndarray]
    reading: Reading | None = None
    unread: str | None = None

    def metrics(self, bootstrap: int, seed: int) -> dict[str, Metric]:
        """Means over the clips."""
        return {key: mean(values, bootstrap, seed) for key, values in self.values.items()}


def per_clip(
    mode: str, lines: Sequence[Answer], path: Path, wheels: EmotionWheels, task: Task, form: str = ONE_ANSWER
) -> PerClip:
    """The values of a file of answers.

    Args:
        path: the file, beside which its confidences lie.
        task: of the corpus; where its labels are no emotion words there is nothing to be sure of.
        form: of a response; confidences are read in the default form only.

    Raises:
        InputError: the confidences cannot be used.
    """
    masks = wheels.wheel_masks()
    counts = [
        [sum((wheels.mask(line.words) & mask).bit_count() for mask in masks) / len(masks) for line in part]
        for part in by_sample(lines, path)
    ]
    values = {"categories": np.mean(counts, axis=0)}
    if task not in ("ew", "hit") or mode not in FORMS:
        return PerClip(values)
    if form != ONE_ANSWER:
        return PerClip(values, unread=f"confidences are not defined for the form {form}")
    command = f"`main_eval confidence {path.parent}`"
    found = read_confidences(path, lines)
    if found is None:
        return PerClip(values, unread=f"the confidences are not computed yet; run {command}")
    there, meta = found
    if meta.wheels != wheels.identity:
        return PerClip(
            values,
            unread=f"the confidences were computed with the wheels {meta.wheels['name']}; delete "
            f"{confidence_path(path)} and its .meta.json, then run {command} with the wheels of the report",
        )
    if missing := sum(line.failed is None and line.index not in there for line in lines):
        text = f"the confidences of {missing} of {len(lines)} answers are not computed yet; run {command}"
        return PerClip(values, unread=text)
    for key in ("truth", "margin"):
        own = (getattr(there[line.index].own, key) if line.index in there else None for line in lines)
        values[key] = np.array([math.nan if value is None else value for value in own])
    return PerClip(values, meta.reading)


def gaps(slow: PerClip, fast: PerClip, bootstrap: int, seed: int) -> dict[str, Metric]:
    """Fast less slow, over the clips for which both are defined; both have the same clips in the same order."""
    return {
        key: mean(fast.values[key] - values, bootstrap, seed)
        for key, values in slow.values.items()
        if key in fast.values
    }


def retained_hit(
    slow: Sequence[Answer], fast: Sequence[Answer], wheels: EmotionWheels, bootstrap: int, seed: int
) -> Metric:
    """Retained hit rate of slow and fast answers to the same clips."""
    gold = {line.name: line.labels for line in slow}
    words = ({line.name: line.words for line in lines} for lines in (slow, fast))
    found = retained_hit_rate(gold, *words, wheels, bootstrap=bootstrap, seed=seed)
    return _metric(found["retained_hit"], found.get("ci95", {}).get("retained_hit"))


def mean(values: np.ndarray, bootstrap: int, seed: int) -> Metric:
    """Mean of the defined values with its interval over clips; None without any."""
    kept = values[~np.isnan(values)]
    if not len(kept):
        return Metric(value=None)
    found = None
    if bootstrap:
        found = intervals(lambda counts: {"mean": counts @ kept / len(kept)}, len(kept), bootstrap, seed)["mean"]
    return _metric(float(kept.mean()), found)


def _metric(value: float, interval: Sequence[float] | None) -> Metric:
    low, high = interval or (math.nan, math.nan)
    numbers = {"value": value, "low": low, "high": high}
    return Metric(**{key: None if math.isnan(number) else number for key, number in numbers.items()})
