"""Slow-fast confidence of a response: from the masses the engine read to rewards (Eq. 1, 2, 8-11). No model, no verl.

Rows come from :func:`verl_ext.actor.set_log_probs.set_log_probs`, one a word and mode: conf(c) = log Σ p(e) of every
category of every wheel (Eq. 1), then the log-prob of the token the word itself begins with.

Deviations from the letter of the paper, which has one wheel in mind: everything is computed wheel by wheel and averaged
over the wheels on which it is defined, as the scores are. A wheel on which the labels map nowhere takes no part. E⁺ and
E⁻ are sets (Eq. 10): a word that is repeated counts where it stands first.
The own token of a word and the floor: :mod:`recipe.mer_r1.method.word_confidence`; Eq. 2:
:mod:`recipe.mer_r1.method.margin`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from recipe.mer_r1.method.alignment import AlignedWord
from recipe.mer_r1.method.margin import margins
from recipe.mer_r1.method.token_sets import CategorySets
from recipe.mer_r1.method.wheel import EmotionWheels
from recipe.mer_r1.method.word_confidence import MODES, NAN, Coverage, WordConfidence, count_words, coverage_of, mean


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
    """By mode: ``gt_slow``, ``neg_slow``, ``margin_slow``, … (Eq. 2), and ``margin_all_slow``, over all words."""
    gaps: dict[tuple[str, str], list[float]]
    """Δ (Eq. 9) of the words of each ``(wheel, category)``."""
    words: list[WordConfidence]
    sets: CategorySets
    coverage: Coverage

    def words_json(self) -> list[dict[str, Any]]:
        """The words for a rollout file."""
        found = []
        for word in self.words:
            entry: dict[str, Any] = {"word": word.text, "counted": word.rows is not None, "covered": dict(word.covered)}
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
        words: all words of its answer, in order, with their tokens.
        slow: ``(n, S + 1)``, a row for each word that has a token of its own, read in the response.
        fast: the same, read in the branch.
        labels: the clip's true emotion words.
        sets: S categories, in the order of the rows' columns.
        floor: nats; no log-confidence is lower.
    """
    counted = count_words(words, slow, fast, wheels, sets, floor)
    labels = list(labels)
    readings = read(counted, labels, wheels, sets.names)
    gaps: dict[tuple[str, str], list[float]] = {}
    for reading in readings:
        if not math.isnan(reading.gap):
            gaps.setdefault((reading.wheel, reading.category), []).append(reading.gap)
    of_words = margins(counted, labels, wheels, sets.names)
    return Calibration(rewards(readings), of_words, gaps, counted, sets, coverage_of(counted))


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
            found[f"calib_{side}{suffix}"] = mean([sign * mean(of_wheel) for of_wheel in gaps.values()])
    return found


def batch_metrics(calibrations: Sequence[Calibration]) -> dict[str, float]:
    """Means over a batch, the share of responses for which each signal is undefined, coverage, and Δ by category."""
    metrics = {}
    for name in ("calib_pos", "calib_neg", "calib_pos_word", "calib_neg_word"):
        values = [calibration.signals[name] for calibration in calibrations]
        metrics[f"confidence/{name}/mean"] = mean(values)
        metrics[f"confidence/{name}/undefined"] = sum(map(math.isnan, values)) / max(1, len(values))
    for name in [f"{part}_{mode}" for mode in MODES for part in ("gt", "neg", "margin", "margin_all")]:
        metrics[f"confidence/{name}/mean"] = mean([calibration.margins[name] for calibration in calibrations])
    gaps: dict[tuple[str, str], list[float]] = {}
    for calibration in calibrations:
        for name, found in calibration.gaps.items():
            gaps.setdefault(name, []).extend(found)
    found = [calibration.coverage for calibration in calibrations]
    readings, first = sum(one.readings for one in found), sum(one.first_readings for one in found)
    metrics["confidence/coverage"] = sum(one.covered for one in found) / readings if readings else NAN
    metrics["confidence/coverage_first"] = sum(one.first_covered for one in found) / first if first else NAN
    metrics["confidence/delta/mean"] = mean([gap for found in gaps.values() for gap in found])
    metrics |= {f"confidence/delta/{'/'.join(name)}": mean(found) for name, found in sorted(gaps.items())}
    return {name: value for name, value in metrics.items() if not math.isnan(value)}
