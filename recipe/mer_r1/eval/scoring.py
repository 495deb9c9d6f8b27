"""The metrics of one file of answers by the task of its corpus: EW and HIT of its words, WAF of what they were mapped
to, MME-Emotion of what a judge gave.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipe.mer_r1.eval.answers import Answer, by_sample
from recipe.mer_r1.eval.corpora import Task
from recipe.mer_r1.eval.judge.files import read_judged, read_verdicts
from recipe.mer_r1.eval.judge.results import Results as Judged
from recipe.mer_r1.eval.judge.results import mean_intervals
from recipe.mer_r1.eval.results import Metric
from recipe.mer_r1.eval.sentiment.files import read_sentiments
from recipe.mer_r1.eval.sentiment.meta import Mapper
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.method.metrics import ew_gaps, ew_scores, hit_rate, waf
from recipe.mer_r1.method.wheel import EmotionWheels

# A shard's label is the sign of the true score, which is all that WAF reads of it.
_SIGNS = {"positive": 1.0, "negative": -1.0, "neutral": 0.0}
_JUDGED = ("recognition", "reasoning", "cot")


@dataclass(frozen=True)
class Scored:
    """As the fields of `results.Result`."""

    metrics: dict[str, Metric]
    sentiment: Mapper | None = None
    judged: Judged | None = None
    notes: tuple[str, ...] = ()


def score(task: Task, lines: Sequence[Answer], path: Path, wheels: EmotionWheels, bootstrap: int, seed: int) -> Scored:
    """Score a file of answers; a clip with several answers counts with the mean over them.

    Args:
        path: the file, beside which its sentiments or verdicts lie.

    Raises:
        InputError: labels are not those of the task, what lies beside the file cannot be used, or some clips have more
            answers than others.
    """
    parts = by_sample(lines, path)
    if len(parts) > 1 and task in ("judge", "waf"):
        note = f"no {'CoT' if task == 'judge' else 'WAF'}: the file has {len(parts)} answers per clip, but "
        note += "`main_eval judge`" if task == "judge" else "`main_eval sentiment`"
        keys = _JUDGED if task == "judge" else ("waf",)
        return Scored(dict.fromkeys(keys, Metric(value=None)), notes=(f"{note} takes one (--samples 1)",))
    if task == "judge":
        return _judged(path, bootstrap, seed)
    gold = _by_name(parts[0], "labels", path)
    if task == "waf":
        failed = {line.name for line in lines if line.failed is not None}
        return _waf(gold, failed, path, bootstrap, seed)
    words = [_by_name(part, "words", path) for part in parts]
    metrics = _metrics(ew_scores(gold, words, wheels, bootstrap=bootstrap, seed=seed), ("F", "P", "R"))
    if task == "hit":
        try:
            metrics |= _metrics(hit_rate(gold, words, wheels, bootstrap=bootstrap, seed=seed), ("hit",))
        except ValueError as error:
            raise InputError(f"{path}: {error}") from error
    return Scored(metrics)


def gaps(
    slow: Sequence[Answer], fast: Sequence[Answer], wheels: EmotionWheels, bootstrap: int, seed: int
) -> dict[str, Metric]:
    """F, P and R of fast less slow answers to the same clips, resampled together."""
    gold = {line.name: line.labels for line in slow}
    slow_words, fast_words = ({line.name: line.words for line in lines} for lines in (slow, fast))
    return _metrics(ew_gaps(gold, slow_words, fast_words, wheels, bootstrap=bootstrap, seed=seed), ("F", "P", "R"))


def _waf(labels: Mapping[str, list[str]], unanswered: Collection[str], path: Path, bootstrap: int, seed: int) -> Scored:
    """`unanswered` clips count as wrong; their empty answers were mapped to neutral, which is right for some."""
    gold = {}
    for name, listed in labels.items():
        if len(listed) != 1 or listed[0] not in _SIGNS:
            raise InputError(f"{path}: clip {name!r}: the labels {listed} are not one of {', '.join(_SIGNS)}")
        gold[name] = _SIGNS[listed[0]]
    command = f"`main_eval sentiment --answers {path.parent} --mapper …`"
    found = read_sentiments(path)
    nothing = {"waf": Metric(value=None)}
    if found is None:
        return Scored(nothing, notes=(f"no WAF: the words are not mapped to sentiment yet; run {command}",))
    sentiments, meta = found
    if failed := meta.counts["n_failed"]:
        note = f"no WAF: {failed} of {len(gold)} answers were not mapped; run {command} again"
        return Scored(nothing, meta.mapper, notes=(note,))
    if gold.keys() != sentiments.keys():
        raise InputError(f"{path}: its clips differ from the mapped clips; run {command} again")
    given = {name: sentiment for name, sentiment in sentiments.items() if name not in unanswered}
    try:
        scores = waf(gold, given, missing="zero", bootstrap=bootstrap, seed=seed)
        return Scored(_metrics(scores, ("waf",)), meta.mapper)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def _judged(path: Path, bootstrap: int, seed: int) -> Scored:
    """CoT, recognition and reasoning over all answers, the official way; the rest stands in `judged`."""
    found, command = read_judged(path), f"`main_eval judge --answers {path} …`"
    nothing = dict.fromkeys(_JUDGED, Metric(value=None))
    if found is None:
        return Scored(nothing, notes=(f"not judged yet; run {command}",))
    if failed := found.overall.n_failed:
        note = f"no CoT: {failed} of {found.overall.n} answers have no verdict; run {command} again"
        return Scored(nothing, judged=found, notes=(note,))
    scores = found.overall.official
    if scores is None:
        return Scored(nothing, judged=found)
    numbers = {key: getattr(scores, key) for key in _JUDGED}
    if bootstrap:
        numbers["ci95"] = mean_intervals(read_verdicts(path), bootstrap, seed)
    return Scored(_metrics(numbers, _JUDGED), judged=found)


def _by_name(lines: Sequence[Answer], field: str, path: Path) -> dict[str, list[str]]:
    found = {line.name: getattr(line, field) for line in lines}
    if len(found) < len(lines):
        raise InputError(
            f"{path}: two rows of the shard have the same clip name; only MME-Emotion can have a clip twice"
        )
    return found


def _metrics(scores: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Metric]:
    """Undefined numbers become None."""
    intervals = scores.get("ci95", {})
    return {key: Metric(**_numbers(scores[key], *intervals.get(key, (math.nan, math.nan)))) for key in keys}


def _numbers(value: float, low: float, high: float) -> dict[str, float | None]:
    named = {"value": value, "low": low, "high": high}
    return {key: None if math.isnan(number) else number for key, number in named.items()}
