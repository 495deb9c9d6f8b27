"""Slow-fast confidence of a response: from the masses the engine read to rewards (Eq. 1, 2, 8-11). No model, no verl.

Rows come from :func:`verl_ext.actor.set_log_probs.set_log_probs`, one a word and mode: conf(c) = log Σ p(e) of every
category of every wheel (Eq. 1), then the log-prob of the token the word itself begins with.

Deviations from the letter of the paper, which has one wheel in mind: everything is computed wheel by wheel and averaged
over the wheels on which it is defined, as the scores are. A wheel on which the labels map nowhere takes no part. E⁺ and
E⁻ are sets (Eq. 10): a word that is repeated counts where it stands first. Log-masses end at a floor instead of -inf.
Eq. 2 is read where the answer's first word begins, a choice the paper leaves open.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from recipe.mer_r1.method.alignment import AlignedWord
from recipe.mer_r1.method.token_sets import CategorySets
from recipe.mer_r1.method.wheel import EmotionWheels

HARD_NEGATIVES = 3
NAN = float("nan")
MODES = ("slow", "fast")


@dataclass(frozen=True)
class WordConfidence:
    """One word of an answer; rows ``(S + 1,)`` in nats, None where the word takes no part."""

    text: str
    rows: dict[str, list[float]] | None
    """By mode: every category's log-confidence (NaN for one without tokens), then the word's own log-prob."""


@dataclass(frozen=True)
class Reading:
    """A word on a wheel: a member of E⁺ or E⁻ (Eq. 10). Confidences in nats, NaN for a category without tokens."""

    word: str
    wheel: str
    category: str
    correct: bool
    """In E⁺; otherwise in E⁻."""
    slow: float
    slow_word: float
    fast: float
    fast_word: float

    @property
    def gap(self) -> float:
        """Δ (Eq. 9)."""
        return self.slow - self.fast

    @property
    def gap_word(self) -> float:
        """Δ of the word itself (A1)."""
        return self.slow_word - self.fast_word


@dataclass(frozen=True)
class Calibration:
    """What one response gives. NaN where undefined; then every mean leaves it out."""

    signals: dict[str, float]
    """``calib_pos`` R⁺, ``calib_neg`` R⁻ (Eq. 11), and ``…_word``, the same with word-level confidence (A1)."""
    margins: dict[str, float]
    """By mode: ``gt_slow``, ``neg_slow``, ``margin_slow``, … (Eq. 2)."""
    gaps: dict[tuple[str, str], list[float]]
    """Δ (Eq. 9) of the words of each ``(wheel, category)``."""
    words: list[WordConfidence]
    sets: CategorySets

    def words_json(self) -> list[dict[str, Any]]:
        """The words for a rollout file."""
        found = []
        for word in self.words:
            entry: dict[str, Any] = {"word": word.text, "counted": word.rows is not None}
            for mode in MODES:
                rows = word.rows[mode] if word.rows else None
                entry[mode] = self._by_wheel(rows) if rows else None
                entry[f"{mode}_word"] = rows[-1] if rows else None
            found.append(entry)
        return found

    def _by_wheel(self, row: list[float]) -> dict[str, dict[str, float | None]]:
        found: dict[str, dict[str, float | None]] = {}
        for (wheel, category), value in zip(self.sets.names, row, strict=False):
            found.setdefault(wheel, {})[category] = None if math.isnan(value) else value
        return found


def calibrate(
    words: Sequence[AlignedWord],
    slow: torch.Tensor,
    fast: torch.Tensor,
    labels: Iterable[str],
    wheels: EmotionWheels,
    sets: CategorySets,
    floor: float = -20.0,
) -> Calibration:
    """Rewards and margins of one response.

    Args:
        words: all words of its answer, in order.
        slow: ``(n, S + 1)``, a row for each word that has a token of its own, read in the response.
        fast: the same, read in the branch.
        labels: the clip's true emotion words.
        sets: S categories, in the order of the rows' columns.
        floor: nats; no log-confidence is lower.
    """
    counted = _counted(words, slow, fast, sets, floor)
    labels = list(labels)
    readings = read(counted, labels, wheels, sets.names)
    gaps: dict[tuple[str, str], list[float]] = {}
    for reading in readings:
        if not math.isnan(reading.gap):
            gaps.setdefault((reading.wheel, reading.category), []).append(reading.gap)
    return Calibration(rewards(readings), margins(counted, labels, wheels, sets.names), gaps, counted, sets)


def read(
    words: Sequence[WordConfidence],
    labels: Iterable[str],
    wheels: EmotionWheels,
    names: Sequence[tuple[str, str]],
) -> list[Reading]:
    """E⁺ and E⁻ (Eq. 10) with each member's confidences, wheel by wheel, words in order.

    Args:
        names: ``(wheel, category)`` of the rows' columns.
    """
    labels = list(labels)
    column = {name: index for index, name in enumerate(names)}
    found = []
    for wheel in wheels.ids:
        truth = wheels.categories(labels, wheel)
        for word in words if truth else ():
            category = wheels.category(word.text, wheel) if word.rows else None
            if category is None:
                continue
            at = column[wheel, category]
            slow, fast = ((word.rows[mode][at], word.rows[mode][-1]) for mode in MODES)
            found.append(Reading(word.text, wheel, category, category in truth, *slow, *fast))
    return found


def _counted(
    words: Sequence[AlignedWord], slow: torch.Tensor, fast: torch.Tensor, sets: CategorySets, floor: float
) -> list[WordConfidence]:
    """The words with their rows; without them where a word repeats an earlier one or has no token of its own."""
    empty = [index for index, tokens in enumerate(sets.token_ids) if not tokens]
    rows = {}
    for mode, values in zip(MODES, (slow, fast), strict=True):
        values = values.clamp(min=floor)
        values[:, empty] = NAN
        rows[mode] = iter(values.tolist())
    found, seen = [], set()
    for word in words:
        own = {mode: next(rows[mode]) for mode in MODES} if word.slow is not None else None
        name = word.text.strip().lower()
        found.append(WordConfidence(word.text, None if name in seen else own))
        seen.add(name)
    return found


def rewards(readings: Sequence[Reading]) -> dict[str, float]:
    """R⁺ and R⁻ (Eq. 11), by category and by word: means over words, then over wheels; NaN where there are none.

    An incorrect word is rewarded for a negative gap.
    """
    found = {}
    for suffix in ("", "_word"):
        for side, correct, sign in (("pos", True, 1), ("neg", False, -1)):
            gaps: dict[str, list[float]] = {}
            for reading in readings:
                if reading.correct is correct:
                    gaps.setdefault(reading.wheel, []).append(reading.gap_word if suffix else reading.gap)
            found[f"calib_{side}{suffix}"] = _mean([sign * _mean(of_wheel) for of_wheel in gaps.values()])
    return found


def margins(
    words: Sequence[WordConfidence],
    labels: Iterable[str],
    wheels: EmotionWheels,
    names: Sequence[tuple[str, str]],
) -> dict[str, float]:
    """Eq. 2 by mode: mean confidence of the true categories, of the three likeliest others, and their difference.

    Read at the first word that takes part. Arguments as for :func:`read`.
    """
    labels = list(labels)
    first = next((word for word in words if word.rows), None)
    found = {}
    for mode in MODES:
        right, wrong, margin = [], [], []
        for wheel in wheels.ids:
            true = wheels.categories(labels, wheel)
            if not true or first is None:
                continue
            row = first.rows[mode]
            values = {c: row[at] for at, (w, c) in enumerate(names) if w == wheel and not math.isnan(row[at])}
            gt = _mean([value for category, value in values.items() if category in true])
            others = sorted((value for category, value in values.items() if category not in true), reverse=True)
            neg = _mean(others[:HARD_NEGATIVES])
            right, wrong = [*right, gt], [*wrong, neg]
            margin.append(gt - neg)
        found |= {f"gt_{mode}": _mean(right), f"neg_{mode}": _mean(wrong), f"margin_{mode}": _mean(margin)}
    return found


def _mean(values: Iterable[float]) -> float:
    """Mean of the defined values; NaN without any."""
    kept = [value for value in values if not math.isnan(value)]
    return sum(kept) / len(kept) if kept else NAN


def batch_metrics(calibrations: Sequence[Calibration]) -> dict[str, float]:
    """Means over a batch, the share of responses for which each signal is undefined, and Δ by category."""
    metrics = {}
    for name in ("calib_pos", "calib_neg", "calib_pos_word", "calib_neg_word"):
        values = [calibration.signals[name] for calibration in calibrations]
        metrics[f"confidence/{name}/mean"] = _mean(values)
        metrics[f"confidence/{name}/undefined"] = sum(map(math.isnan, values)) / max(1, len(values))
    for name in [f"{part}_{mode}" for mode in MODES for part in ("gt", "neg", "margin")]:
        metrics[f"confidence/{name}/mean"] = _mean([calibration.margins[name] for calibration in calibrations])
    gaps: dict[tuple[str, str], list[float]] = {}
    for calibration in calibrations:
        for name, found in calibration.gaps.items():
            gaps.setdefault(name, []).extend(found)
    metrics["confidence/delta/mean"] = _mean([gap for found in gaps.values() for gap in found])
    metrics |= {f"confidence/delta/{'/'.join(name)}": _mean(found) for name, found in sorted(gaps.items())}
    return {name: value for name, value in metrics.items() if not math.isnan(value)}
