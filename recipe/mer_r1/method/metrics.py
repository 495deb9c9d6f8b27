"""Scores of a whole set of predictions, equal to the official scorer's: EW (Eq. 36–39), HIT (Eq. 40) and WAF.

Each takes dicts from sample name to words (a list, or text that the list rule splits) and returns a mapping with the
keys of the result files, numbers in 0..1. Undefined scores are NaN or 0, as `wheels.rules` says. With `bootstrap=N`
there is a `ci95` too: the percentile interval over N resamplings of the samples. EW and HIT also take several
predictions per sample, as a list of such dicts: recall and precision of a sample are then means over its predictions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from recipe.mer_r1.method.answer import split_list
from recipe.mer_r1.method.bootstrap import Score, difference, intervals
from recipe.mer_r1.method.reward import sample_scores, wheel_scores
from recipe.mer_r1.method.wheel import EmotionWheels

Words = str | Iterable[str]
Predictions = Mapping[str, Words] | Sequence[Mapping[str, Words]]
Missing = Literal["error", "zero"]

__all__ = [
    "ew_gaps",
    "ew_scores",
    "ew_statistic",
    "hit_rate",
    "hit_statistic",
    "sample_scores",
    "waf",
    "waf_statistic",
    "wheel_scores",
]

_SENTIMENT = {"positive": 1, "negative": -1, "neutral": 0}


def ew_scores(
    gold: Mapping[str, Words],
    pred: Predictions,
    wheels: EmotionWheels,
    level: int = 1,
    *,
    missing: Missing = "error",
    bootstrap: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Set-level F1, precision and recall, averaged over the wheels.

    Per wheel, P and R are averaged over the samples whose truth maps on it, and F is made of the averages; so the mean
    F over the wheels is not the harmonic mean of the mean P and R.

    Returns `F`, `P`, `R`, `n`, `n_scored_per_wheel`, `per_wheel[w] = {F, P, R, n}`, the wheels' identity and rules.
    Raises ValueError where the names differ, unless `missing="zero"`: then a sample without a prediction earns 0 and a
    prediction without truth is left out.
    """
    names, per_wheel = _mean_per_wheel(gold, pred, wheels, level, missing)
    totals = partial(_ew_totals, per_wheel=per_wheel, wheels=wheels)
    return _result("ew", names, per_wheel[0], totals, wheels, level, bootstrap, seed)


def ew_gaps(
    gold: Mapping[str, Words],
    pred: Mapping[str, Words],
    other: Mapping[str, Words],
    wheels: EmotionWheels,
    *,
    bootstrap: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """`F`, `P` and `R` of `other` less those of `pred` (the paper's Figure 3 a, with fast as `other`), in −1..1.

    With `bootstrap` there is a `ci95`: both are resampled together, sample by sample, so that what is hard for both
    does not widen it. Raises ValueError where the names differ.
    """
    names = check_names(gold, pred)
    gaps = difference(ew_statistic(gold, other, wheels), ew_statistic(gold, pred, wheels))
    result: dict[str, Any] = {key: float(value[0]) for key, value in gaps(np.ones((1, len(names)))).items()}
    if bootstrap:
        result["ci95"] = intervals(gaps, len(names), bootstrap, seed)
    return result


def ew_statistic(gold: Mapping[str, Words], pred: Predictions, wheels: EmotionWheels) -> Score:
    """`F`, `P` and `R` of :func:`ew_scores` for the bootstrap: of how often each sample of `gold` was drawn.

    Raises ValueError where the names differ.
    """
    _, per_wheel = _mean_per_wheel(gold, pred, wheels, 1, "error")
    return lambda counts: {key: value.mean(axis=1) for key, value in _ew_totals(counts, per_wheel, wheels).items()}


def hit_statistic(gold: Mapping[str, Words], pred: Predictions, wheels: EmotionWheels) -> Score:
    """`hit` of :func:`hit_rate` for the bootstrap, as :func:`ew_statistic`."""
    totals = _hit_totals(gold, _mean_per_wheel(gold, pred, wheels, 1, "error")[1], wheels)
    return lambda counts: {key: value.mean(axis=1) for key, value in totals(counts).items()}


def hit_rate(
    gold: Mapping[str, Words],
    pred: Predictions,
    wheels: EmotionWheels,
    *,
    missing: Missing = "error",
    bootstrap: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Share of samples whose one true label's category is among the predicted ones, averaged over the wheels.

    Samples whose label maps on no wheel ("neutral") take no part. Returns `hit` and else what `ew_scores` returns.
    Raises ValueError for a sample with several labels, and where the names differ, unless `missing="zero"`.
    """
    names, per_wheel = _mean_per_wheel(gold, pred, wheels, 1, missing)
    return _result("hit", names, per_wheel[0], _hit_totals(gold, per_wheel, wheels), wheels, 1, bootstrap, seed)


def waf(
    gold: Mapping[str, float],
    pred: Mapping[str, Words],
    *,
    missing: Missing = "error",
    bootstrap: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Weighted F1 of positive against not positive, over the samples whose true score is not exactly 0.

    `gold` holds scores, `pred` one of positive, negative, neutral; neutral and any other text count as not positive.
    Returns `waf`, `n`, `n_scored` and `n_other`, the number of scored predictions that are none of the three words.
    Raises ValueError for a score that is no number, and where the names differ, unless `missing="zero"`: then a sample
    without a prediction counts as taken for the other class, and a prediction without truth is left out.
    """
    names, scored, sentiments, weighted = _weighted(gold, pred, missing)
    result: dict[str, Any] = {"task": "waf", "n": len(names), "n_scored": len(scored)}
    result["n_other"] = sum(sentiment not in _SENTIMENT for sentiment in sentiments.values())
    result["waf"] = float(weighted(np.ones((1, len(scored))))["waf"][0])
    if bootstrap:
        result["ci95"] = intervals(weighted, len(scored), bootstrap, seed)
    return result


def waf_statistic(gold: Mapping[str, float], pred: Mapping[str, Words], *, missing: Missing = "error") -> Score:
    """`waf` for the bootstrap, as :func:`ew_statistic`: samples whose true score is 0 are drawn and take no part."""
    names, scored, _, weighted = _weighted(gold, pred, missing)
    places = [names.index(name) for name in scored] if len(scored) < len(names) else slice(None)
    return lambda counts: weighted(counts[:, places])


def _weighted(
    gold: Mapping[str, float], pred: Mapping[str, Words], missing: Missing
) -> tuple[list[str], list[str], dict[str, str], Score]:
    """All names, those that are scored, their sentiments, and the weighted F1 of counts of the scored ones."""
    names = check_names(gold, pred, missing)
    for name in names:
        if not isinstance(gold[name], int | float | np.number) or not math.isfinite(gold[name]):
            raise ValueError(f"the true score of {name!r} is {gold[name]!r}; it must be a finite number")
    scored = [name for name in names if gold[name] != 0]
    sentiments = {name: _sentiment(pred[name]) for name in scored if name in pred}
    truth = np.array([gold[name] > 0 for name in scored], dtype=bool)
    guess = np.array(
        [_SENTIMENT.get(sentiments[name], 0) > 0 if name in sentiments else gold[name] <= 0 for name in scored],
        dtype=bool,
    )

    def weighted(counts: np.ndarray) -> dict[str, np.ndarray]:
        """counts: (draws, samples) → weighted F1: (draws,). F1 of a class is 2·hits / (true + predicted)."""
        total = np.zeros(len(counts))
        for is_class, says_class in ((truth, guess), (~truth, ~guess)):
            support, claimed = counts @ is_class, counts @ says_class
            total += support * 2 * (counts @ (is_class & says_class)) / np.maximum(support + claimed, 1)
        size = counts.sum(axis=1)
        return {"waf": np.where(size > 0, total / np.maximum(size, 1), np.nan)}

    return names, scored, sentiments, weighted


def as_words(words: Words) -> list[str]:
    """A list of words, out of a text too."""
    return split_list(words) if isinstance(words, str) else list(words)


def _sentiment(value: Words) -> str:
    """One word, also when it comes as a list of one or in brackets; anything else as it stands."""
    words = as_words(value)
    return words[0] if len(words) == 1 else str(value)


def check_names(gold: Mapping[str, Any], pred: Mapping[str, Any], missing: Missing = "error") -> list[str]:
    """The names of `gold`. Raises ValueError where those of `pred` differ, unless `missing="zero"`."""
    if missing not in ("error", "zero"):
        raise ValueError(f"unknown missing={missing!r}; use error or zero")
    if missing == "error" and gold.keys() != pred.keys():
        kinds = (
            (
                "samples without a prediction",
                gold.keys() - pred.keys(),
                "counts samples without a prediction as wrong",
            ),
            ("samples without a gold label", pred.keys() - gold.keys(), "ignores samples without a gold label"),
        )
        found = [f"{what}: {len(names)} ({_some(names)})" for what, names, _ in kinds if names]
        remedies = [remedy for _, names, remedy in kinds if names]
        raise ValueError(f"{'; '.join(found)}; missing=zero {' and '.join(remedies)}")
    return list(gold)


def _some(names: Iterable[str], most: int = 5) -> str:
    listed = sorted(map(str, names))
    return ", ".join(listed[:most]) + (", …" if len(listed) > most else "")


def _mean_per_wheel(
    gold: Mapping[str, Words], pred: Predictions, wheels: EmotionWheels, level: int, missing: Missing
) -> tuple[list[str], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The names of `gold`, and what `_per_wheel` gives, as the mean over the predictions of a sample."""
    every = [pred] if isinstance(pred, Mapping) else list(pred)
    if not every:
        raise ValueError("there are no predictions: the list is empty")
    for one in every:
        check_names(gold, one, missing)
    names = list(gold)
    kept, recall, precision = zip(*(_per_wheel(names, gold, one, wheels, level) for one in every), strict=True)
    return names, (kept[0], np.mean(recall, axis=0), np.mean(precision, axis=0))


def _per_wheel(
    names: list[str], gold: Mapping[str, Words], pred: Mapping[str, Words], wheels: EmotionWheels, level: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per sample and wheel, each (samples, wheels): whether the truth maps (0 or 1), recall, precision (0 if not).

    The per-sample rewards of reward.py in one sweep: Eq. 4 with sets held as bits.
    """
    masks = wheels.wheel_masks(level)
    sizes: list[int] = []  # flat: sample by sample, wheel by wheel, |g|, |p|, |g∩p|
    for name in names:
        truth = wheels.mask(as_words(gold[name]), level)
        guess = wheels.mask(as_words(pred.get(name, ())), level)
        hits = truth & guess
        for mask in masks:
            sizes += (truth & mask).bit_count(), (guess & mask).bit_count(), (hits & mask).bit_count()
    table = np.array(sizes, dtype=float).reshape(len(names), len(masks), 3)
    size_gold, size_pred, size_both = table[:, :, 0], table[:, :, 1], table[:, :, 2]
    return (size_gold > 0).astype(float), size_both / np.maximum(size_gold, 1), size_both / np.maximum(size_pred, 1)


def _ew_totals(
    counts: np.ndarray, per_wheel: tuple[np.ndarray, np.ndarray, np.ndarray], wheels: EmotionWheels
) -> dict[str, np.ndarray]:
    """counts: (draws, samples) → F, P, R: each (draws, wheels)."""
    kept, recall, precision = per_wheel
    n = counts @ kept
    p, r = _divide(counts @ precision, n, wheels), _divide(counts @ recall, n, wheels)
    return {"F": _divide(2 * p * r, p + r, wheels), "P": p, "R": r}


def _hit_totals(
    gold: Mapping[str, Words], per_wheel: tuple[np.ndarray, np.ndarray, np.ndarray], wheels: EmotionWheels
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """counts: (draws, samples) → hit: (draws, wheels). Raises ValueError for a sample with several labels."""
    for name in gold:
        if len(labels := as_words(gold[name])) > 1:
            raise ValueError(f"the hit rate needs one label per sample, but {name!r} has {labels}; use task ew")
    kept, recall, _ = per_wheel
    return lambda counts: {"hit": _divide(counts @ recall, counts @ kept, wheels)}


def _divide(above: np.ndarray, below: np.ndarray, wheels: EmotionWheels) -> np.ndarray:
    """The quotient; where it is undefined, what the rules say: NaN or 0."""
    undefined = np.nan if wheels.rules == "mer2025" else 0.0
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), undefined)


def _result(
    task: str,
    names: list[str],
    kept: np.ndarray,
    totals: Callable[[np.ndarray], dict[str, np.ndarray]],
    wheels: EmotionWheels,
    level: int,
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    found = {key: values[0] for key, values in totals(np.ones((1, len(names)))).items()}
    n_scored = {wheel: int(n) for wheel, n in zip(wheels.ids, kept.sum(axis=0), strict=True)}
    result: dict[str, Any] = {"task": task, "level": level, "n": len(names), "n_scored_per_wheel": n_scored}
    result |= {key: float(values.mean()) for key, values in found.items()}
    result["per_wheel"] = {
        wheel: {key: float(values[index]) for key, values in found.items()} | {"n": n_scored[wheel]}
        for index, wheel in enumerate(wheels.ids)
    }
    result |= {"wheels": wheels.identity, "rules": wheels.rules}
    if bootstrap:

        def means(counts: np.ndarray) -> dict[str, np.ndarray]:
            return {key: values.mean(axis=1) for key, values in totals(counts).items()}

        result["ci95"] = intervals(means, len(names), bootstrap, seed)
    return result
