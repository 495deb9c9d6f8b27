"""The confidence margin (Eq. 2): the true categories' confidence over that of the likeliest others.

Read where the first word begins that a wheel maps, a choice the paper leaves open; a variant averages over all places
where such a word begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from recipe.mer_r1.method.wheel import EmotionWheels
from recipe.mer_r1.method.word_confidence import MODES, WordConfidence, mean

HARD_NEGATIVES = 3


def margins(
    words: Sequence[WordConfidence],
    labels: Iterable[str],
    wheels: EmotionWheels,
    names: Sequence[tuple[str, str]],
) -> dict[str, float]:
    """Eq. 2 by mode: mean confidence of the true categories, of the three likeliest others, and their difference.

    Wheel by wheel, read at the first word that takes part and that the wheel maps; ``margin_all_…`` is the mean
    difference over all such words. Arguments as for :func:`read`.
    """
    labels = list(labels)
    found = {}
    for mode in MODES:
        first: dict[str, list[float]] = {"gt": [], "neg": [], "margin": []}
        over_all = []
        for wheel in wheels.ids:
            true = wheels.categories(labels, wheel)
            rows = [word.rows[mode] for word in words if word.rows and wheels.category(word.text, wheel) is not None]
            if not true or not rows:
                continue
            read_at = [_margin(row, true, wheel, names) for row in rows]
            for part, value in zip(first, read_at[0], strict=True):
                first[part].append(value)
            over_all.append(mean([margin for _, _, margin in read_at]))
        found |= {f"{part}_{mode}": mean(values) for part, values in first.items()}
        found[f"margin_all_{mode}"] = mean(over_all)
    return found


def _margin(
    row: Sequence[float], true: set[str], wheel: str, names: Sequence[tuple[str, str]]
) -> tuple[float, float, float]:
    """conf_gt, conf_neg and γ (Eq. 2) of one wheel at one place."""
    values = {c: row[at] for at, (w, c) in enumerate(names) if w == wheel and not math.isnan(row[at])}
    gt = mean([value for category, value in values.items() if category in true])
    others = sorted((value for category, value in values.items() if category not in true), reverse=True)
    neg = mean(others[:HARD_NEGATIVES])
    return gt, neg, gt - neg
