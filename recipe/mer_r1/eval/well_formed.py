"""F1 of the well-formed answers alone.

A malformed answer can hold the right words: the reward reads the first closed answer after the last thought. So F1
rises if more answers keep the form, and if the words are better. This score is about the words.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recipe.mer_r1.eval.compare.differences import Difference
from recipe.mer_r1.eval.records import by_clip
from recipe.mer_r1.method.bootstrap import interval

Line = Mapping[str, Any]


def well_formed_f1(answers: Iterable[Line]) -> float | None:
    """Mean F1 of the well-formed answers to a clip; None without one, or where the clip's labels map on no wheel."""
    values = [answer["f1"] for answer in answers if answer["format"] and answer["wheels"]]
    return statistics.fmean(values) if values else None


def difference(first: Iterable[Line], second: Iterable[Line]) -> Difference:
    """Of two sets of answers to the same clips, over the clips where both have a well-formed answer."""
    pairs = zip(_of_clips(first), _of_clips(second), strict=True)
    both = [(one, other) for one, other in pairs if one is not None and other is not None]
    found = interval([[one - other for one, other in both]])
    if found is None:
        return Difference(first=None, second=None, difference=None, low=None, high=None)
    means = (statistics.fmean(values) for values in zip(*both, strict=True))
    return Difference(first=next(means), second=next(means), difference=found.value, low=found.low, high=found.high)


def _of_clips(lines: Iterable[Line]) -> Sequence[float | None]:
    return [well_formed_f1(clip) for clip in by_clip(lines)]
