"""Is a difference between two sets of answers to the same clips beyond chance? Paired differences with intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recipe.mer_r1.method.metrics import intervals

SCORES = ("recall", "precision", "f1")
DRAWS, SEED = 4000, 0
Clips = Mapping[str, Mapping[str, float]]
"""Scores by the clip's name; each is a mean over the clip's samples."""


def read(path: Path) -> dict[str, dict[str, float]]:
    """A file of answers, one line per answer, as the scores of its clips."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for line in path.read_text().splitlines():
        answer = json.loads(line)
        lines.setdefault(answer["name"], []).append(answer)
    return {
        name: {score: float(np.mean([answer[score] for answer in answers])) for score in SCORES}
        for name, answers in sorted(lines.items())
    }


def difference(first: Clips, second: Clips) -> dict[str, dict[str, Any]]:
    """`first` − `second`, score by score: the mean over clips and its 95 % interval, a bootstrap over clips.

    Clips are resampled as pairs, so that what is hard for both does not count. The interval says nothing about
    training with another seed.

    Raises:
        ValueError: the two are not of the same clips.
    """
    if first.keys() != second.keys() or not first:
        raise ValueError("the answers are not to the same clips")
    gaps = {score: np.array([first[name][score] - second[name][score] for name in first]) for score in SCORES}
    drawn = intervals(
        lambda counts: {score: counts @ gap / counts.sum(1) for score, gap in gaps.items()}, len(first), DRAWS, SEED
    )
    return {score: {"mean": float(gap.mean()), "ci95": drawn[score]} for score, gap in gaps.items()}


def sign(found: Mapping[str, Any]) -> int:
    """1 or −1 where the interval lies above or below 0, else 0: the data do not tell."""
    low, high = found["ci95"]
    return 1 if low > 0 else -1 if high < 0 else 0


def number(found: Mapping[str, Any]) -> str:
    """`+.096 (95 % interval +.061 to +.130)`."""
    low, high = found["ci95"]
    return f"{_signed(found['mean'])} (95 % interval {_signed(low)} to {_signed(high)})"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("0.", ".", 1).replace("-", "−")
