"""The metrics of one file of answers by the task of its corpus: EW and HIT of its words, WAF of what they were mapped
to, MME-Emotion of what a judge gave.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipe.mer_r1.eval.answers import Answer, by_sample
from recipe.mer_r1.eval.corpora import Task
from recipe.mer_r1.eval.judge.files import read_judged, read_verdicts
from recipe.mer_r1.eval.judge.results import Results as Judged
from recipe.mer_r1.eval.judge.results import mean_score
from recipe.mer_r1.eval.judge.verdict import Verdict
from recipe.mer_r1.eval.results import Metric
from recipe.mer_r1.eval.sentiment.files import read_sentiments
from recipe.mer_r1.eval.sentiment.meta import Mapper
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.method.bootstrap import Score
from recipe.mer_r1.method.bootstrap import bootstrap as bootstrap_of
from recipe.mer_r1.method.metrics import ew_gaps, ew_scores, ew_statistic, hit_rate, hit_statistic, waf, waf_statistic
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
    if task == "waf":
        return _waf(lines, path, bootstrap, seed)
    gold = _by_name(parts[0], "labels", path)
    words = [_by_name(part, "words", path) for part in parts]
    metrics = _metrics(ew_scores(gold, words, wheels, bootstrap=bootstrap, seed=seed), ("F", "P", "R"))
    if task == "hit":
        try:
            metrics |= _metrics(hit_rate(gold, words, wheels, bootstrap=bootstrap, seed=seed), ("hit",))
        except ValueError as error:
            raise InputError(f"{path}: {error}") from error
    return Scored(metrics)


def statistic(task: Task, lines: Sequence[Answer], path: Path, wheels: EmotionWheels) -> tuple[Score | None, str]:
    """The scores of a file of answers for the bootstrap, and why there are none.

    F, P and R; hit, waf, or the judge's official means besides or instead, by the corpus. They are functions of how
    often each clip was drawn, clips in the order of the rows; MME-Emotion's answers in the order of names and tasks.

    Raises:
        InputError: as :func:`score`.
    """
    parts = by_sample(lines, path)
    if task in ("judge", "waf"):
        found = score(task, lines, path, wheels, 0, 0)
        if found.notes:
            return None, found.notes[0]
        if task == "judge":
            verdicts = sorted(read_verdicts(path), key=lambda verdict: (verdict.name, verdict.task, verdict.index))
            return mean_score(verdicts), ""
        gold, given = _sentiments(lines, path)
        return waf_statistic(gold, given, missing="zero"), ""
    gold, words = _by_name(parts[0], "labels", path), [_by_name(part, "words", path) for part in parts]
    every = [ew_statistic(gold, words, wheels)]
    try:
        every += [hit_statistic(gold, words, wheels)] if task == "hit" else []
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    return lambda counts: {key: value for one in every for key, value in one(counts).items()}, ""


def gaps(
    slow: Sequence[Answer], fast: Sequence[Answer], wheels: EmotionWheels, bootstrap: int, seed: int
) -> dict[str, Metric]:
    """F, P and R of fast less slow answers to the same clips, resampled together."""
    gold = {line.name: line.labels for line in slow}
    slow_words, fast_words = ({line.name: line.words for line in lines} for lines in (slow, fast))
    return _metrics(ew_gaps(gold, slow_words, fast_words, wheels, bootstrap=bootstrap, seed=seed), ("F", "P", "R"))


def _sentiments(lines: Sequence[Answer], path: Path) -> tuple[dict[str, float], dict[str, str]]:
    """Sign of the true score, and the mapped sentiment, by clip. `failed` clips are left out of the second: they count
    as wrong, but their empty answers were mapped to neutral, which is right for some.
    """
    gold, failed = {}, {line.name for line in lines if line.failed is not None}
    for name, listed in _by_name(lines, "labels", path).items():
        if len(listed) != 1 or listed[0] not in _SIGNS:
            raise InputError(f"{path}: clip {name!r}: the labels {listed} are not one of {', '.join(_SIGNS)}")
        gold[name] = _SIGNS[listed[0]]
    sentiments, _ = read_sentiments(path) or ({}, None)
    return gold, {name: sentiment for name, sentiment in sentiments.items() if name not in failed}


def _waf(lines: Sequence[Answer], path: Path, bootstrap: int, seed: int) -> Scored:
    gold, given = _sentiments(lines, path)
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
    try:
        scores = waf(gold, given, missing="zero", bootstrap=bootstrap, seed=seed)
        return Scored(_metrics(scores, ("waf",)), meta.mapper)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def _judged(path: Path, bootstrap: int, seed: int) -> Scored:
    """CoT, recognition and reasoning over all answers, the official way; the rest stands in `judged`.

    `cot/TASK`, `strict/TASK` and the strict means `strict/cot` and so on are there with their intervals too.
    """
    found, command = read_judged(path), f"`main_eval judge --answers {path} …`"
    nothing = dict.fromkeys(_JUDGED, Metric(value=None))
    if found is None:
        return Scored(nothing, notes=(f"not judged yet; run {command}",))
    if failed := found.overall.n_failed:
        note = f"no CoT: {failed} of {found.overall.n} answers have no verdict; run {command} again"
        return Scored(nothing, judged=found, notes=(note,))
    if found.overall.official is None:
        return Scored(nothing, judged=found)
    verdicts = read_verdicts(path)
    metrics = _of_verdicts(verdicts, _JUDGED, "", bootstrap, seed)
    metrics |= _of_verdicts(verdicts, _JUDGED, "strict/", bootstrap, seed)
    for task in found.tasks:
        own = [verdict for verdict in verdicts if verdict.task == task]
        for side in ("", "strict/"):
            cot = _of_verdicts(own, ("cot",), side, bootstrap, seed)[f"{side}cot"]
            metrics[f"{side or 'cot/'}{task}"] = cot
    return Scored(metrics, judged=found)


def _of_verdicts(
    verdicts: Sequence[Verdict], keys: Sequence[str], side: str, bootstrap: int, seed: int
) -> dict[str, Metric]:
    found = bootstrap_of([mean_score(verdicts, strict=bool(side))], len(verdicts), bootstrap, seed)
    numbers = {key: _numbers(one.value, one.low, one.high) for key, one in found.items()}
    return {f"{side}{key}": Metric(**numbers[key]) for key in keys}


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
