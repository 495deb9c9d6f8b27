"""The confidences of one word of an answer (Eq. 1), from the masses that the engine read. No model, no verl.

The token of a sampled word always counts in full for the word's own category at the word's own place, whatever the
sets say of it: so conf(c(e)) ≥ log p(e), and a higher p(e) never lowers conf(c(e)). Log-masses end at a floor instead
of -inf.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from recipe.mer_r1.method.alignment import AlignedWord
from recipe.mer_r1.method.token_sets import CategorySets
from recipe.mer_r1.method.wheel import EmotionWheels

NAN = float("nan")
MODES = ("slow", "fast")


@dataclass(frozen=True)
class WordConfidence:
    """One word of an answer; rows ``(S + 1,)`` in nats, None where the word takes no part."""

    text: str
    rows: dict[str, list[float]] | None
    """By mode: every category's log-confidence (NaN for one without tokens), then the word's own log-prob. The word's
    own token counts in full for its own categories."""
    covered: Mapping[str, bool] = field(default_factory=dict)
    """By wheel that maps the word: whether its own token is in the set of its category by the sets alone."""


@dataclass(frozen=True)
class Coverage:
    """In how many readings (a word on a wheel that maps it) the word's own token is in its category's set (Eq. 1)."""

    covered: int
    readings: int
    first_covered: int
    """The same of the first mapped word of each wheel alone, where Eq. 2 is read."""
    first_readings: int


def count_words(
    words: Sequence[AlignedWord],
    slow: torch.Tensor,
    fast: torch.Tensor,
    wheels: EmotionWheels,
    sets: CategorySets,
    floor: float,
) -> list[WordConfidence]:
    """The words with their rows; without them where a word repeats an earlier one or has no token of its own.

    Arguments as for :func:`recipe.mer_r1.method.confidence.calibrate`.
    """
    empty = [index for index, tokens in enumerate(sets.token_ids) if not tokens]
    rows = {}
    for mode, values in zip(MODES, (slow, fast), strict=True):
        values = values.clone()
        values[:, empty] = NAN
        rows[mode] = iter(values.tolist())
    found, seen = [], set()
    for word in words:
        own = {mode: next(rows[mode]) for mode in MODES} if word.slow is not None else None
        name = word.text.strip().lower()
        if own is None or name in seen:
            found.append(WordConfidence(word.text, None))
        else:
            homes = sets.homes(word.text, wheels)
            shares = {wheel: sets.share(at, word.token) for wheel, at in homes.items()}
            missing = {homes[wheel]: 1.0 - share for wheel, share in shares.items()}
            own = {mode: _with_own_token(row, missing, floor) for mode, row in own.items()}
            found.append(WordConfidence(word.text, own, {wheel: share > 0 for wheel, share in shares.items()}))
        seen.add(name)
    return found


def _with_own_token(row: list[float], missing: Mapping[int, float], floor: float) -> list[float]:
    """A row in which the sampled token counts in full for the word's own categories; nothing is below the floor.

    Args:
        row: ``(S + 1,)``, the sampled token's own log-prob at its end.
        missing: the share of the token's probability that the set of each of these categories leaves out.
    """
    row, own = list(row), row[-1]
    for at, rest in missing.items():
        if rest > 0:
            row[at] = own + math.log(rest) if math.isnan(row[at]) else _log_add(row[at], own + math.log(rest))
    return [value if math.isnan(value) else max(value, floor) for value in row]


def _log_add(one: float, two: float) -> float:
    """log(exp(one) + exp(two))."""
    high, low = max(one, two), min(one, two)
    return high if math.isinf(low) else high + math.log1p(math.exp(low - high))


def coverage_of(words: Iterable[WordConfidence]) -> Coverage:
    """Of one response, whose words are in order."""
    by_wheel: dict[str, list[bool]] = {}
    for word in words:
        for wheel, covered in word.covered.items() if word.rows else ():
            by_wheel.setdefault(wheel, []).append(covered)
    readings = [covered for of_wheel in by_wheel.values() for covered in of_wheel]
    return Coverage(sum(readings), len(readings), sum(found[0] for found in by_wheel.values()), len(by_wheel))


def mean(values: Iterable[float]) -> float:
    """Mean of the defined values; NaN without any."""
    kept = [value for value in values if not math.isnan(value)]
    return sum(kept) / len(kept) if kept else NAN
