"""Retained hit rate (the paper's Figure 8): which true categories of the fast answer the slow answer still names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recipe.mer_r1.method.bootstrap import intervals
from recipe.mer_r1.method.metrics import Words, as_words, check_names
from recipe.mer_r1.method.wheel import EmotionWheels


def retained_hit_rate(
    gold: Mapping[str, Words],
    slow: Mapping[str, Words],
    fast: Mapping[str, Words],
    wheels: EmotionWheels,
    *,
    bootstrap: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Σ |G ∩ fast ∩ slow| / Σ |G ∩ fast| over the samples, G being a sample's true categories.

    The paper defines it as the fraction of true categories, correctly predicted by fast thinking, that are preserved in
    the slow answer, for one wheel. Here the sums are made wheel by wheel and the quotients averaged over the wheels on
    which fast answers have a hit at all.

    Args:
        gold, slow, fast: sample name → true words, words of the slow and of the fast answer.
        bootstrap: resamplings of the samples; with it there is a `ci95`.

    Returns:
        `retained_hit` in 0..1 (NaN where no fast answer has a hit), `n_hits`, the hits of fast answers on a wheel, and
        `per_wheel[w]`. Raises ValueError where the names differ.
    """
    names = check_names(gold, slow)
    check_names(gold, fast)
    masks = wheels.wheel_masks()
    hits, kept = np.zeros((2, len(names), len(masks)))
    for row, name in enumerate(names):
        hit = wheels.mask(as_words(gold[name])) & wheels.mask(as_words(fast[name]))
        both = hit & wheels.mask(as_words(slow[name]))
        hits[row] = [(hit & mask).bit_count() for mask in masks]
        kept[row] = [(both & mask).bit_count() for mask in masks]

    def shares(counts: np.ndarray) -> np.ndarray:
        """counts: (draws, samples) → (draws, wheels)."""
        total = counts @ hits
        return np.where(total > 0, counts @ kept / np.maximum(total, 1), np.nan)

    def mean(counts: np.ndarray) -> dict[str, np.ndarray]:
        found = shares(counts)
        defined = ~np.isnan(found)
        total = np.where(defined, found, 0.0).sum(axis=1)
        return {"retained_hit": np.where(defined.any(axis=1), total / np.maximum(defined.sum(axis=1), 1), np.nan)}

    once = np.ones((1, len(names)))
    result: dict[str, Any] = {"retained_hit": float(mean(once)["retained_hit"][0]), "n_hits": int(hits.sum())}
    result["per_wheel"] = dict(zip(wheels.ids, shares(once)[0].tolist(), strict=True))
    if bootstrap:
        result["ci95"] = intervals(mean, len(names), bootstrap, seed)
    return result
