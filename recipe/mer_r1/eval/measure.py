"""From a folder of answers to its results: every number is computed anew from labels and words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recipe.mer_r1.eval.answers import Answer, Answers, RunSettings, read_answers
from recipe.mer_r1.eval.corpora import MISSING_TOOL, official_metric, task_of
from recipe.mer_r1.eval.errors import InputError
from recipe.mer_r1.eval.fingerprints import sha256
from recipe.mer_r1.eval.provenance import git_state, versions
from recipe.mer_r1.eval.results import FolderResults, Metric, Origin, Result, Sampling, Wheels, why_not_comparable
from recipe.mer_r1.metrics import ew_gaps, ew_scores, hit_rate
from recipe.mer_r1.wheel import EmotionWheels


def measure(folder: Path, wheels: EmotionWheels, *, bootstrap: int, seed: int, wheels_named: bool) -> FolderResults:
    """Score a folder that `main_eval run` wrote.

    Args:
        bootstrap: resamplings for the 95 % intervals; 0: none.
        wheels_named: whether the user chose the wheels; else they must be those that the run was made with.

    Raises:
        InputError: the folder cannot be used, or its slow and fast answers are not of the same clips.
    """
    answers = read_answers(folder)
    made_with = answers.settings.wheels
    if not wheels_named and made_with != wheels.identity:
        raise InputError(
            f"{folder}: scored on the wheels {made_with.get('name')} {made_with.get('version')}, not on "
            f"{wheels.name}: name wheels with --wheels DIR or --builtin-wheels"
        )
    results = tuple(_result(answers, mode, wheels, bootstrap, seed) for mode in answers.modes)
    found = FolderResults(results=results)
    slow, fast = found.mode("slow"), found.mode("fast")
    if slow is None or fast is None or task_of(slow.corpus) in MISSING_TOOL:
        return found
    if reasons := why_not_comparable(slow, fast):
        raise InputError(f"{folder}: slow and fast answers are not comparable ({'; '.join(reasons)}); finish the run")
    gold, slow_words = _labels_and_words(answers.modes["slow"])
    gaps = ew_gaps(
        gold, slow_words, _labels_and_words(answers.modes["fast"])[1], wheels, bootstrap=bootstrap, seed=seed
    )
    return found.model_copy(update={"gaps": _metrics(gaps, ("F", "P", "R"))})


def _result(answers: Answers, mode: str, wheels: EmotionWheels, bootstrap: int, seed: int) -> Result:
    lines, settings = answers.modes[mode], answers.settings
    task = task_of(settings.corpus)
    by_name = sorted(lines, key=lambda line: line.name)
    if task in MISSING_TOOL:
        metrics = {official_metric(settings.corpus): Metric(value=None)}
    else:
        metrics = _scores(lines, task == "hit", wheels, bootstrap, seed, answers.folder)
    return Result(
        corpus=settings.corpus,
        split=settings.split,
        mode=mode,
        model=settings.model,
        weights_sha256=settings.weights_sha256,
        names_sha256=sha256([line.name for line in by_name]),
        prompt_sha256=sha256([[line.name, line.prompt_sha256] for line in by_name]),
        media=settings.media,
        sampling=_sampling(settings, mode),
        wheels=Wheels(**wheels.identity, rules=wheels.rules),
        n=len(lines),
        n_shard=settings.n_shard,
        n_failed=sum(line.failed is not None for line in lines),
        n_empty=sum(not line.words for line in lines),
        metrics=metrics | {"categories": Metric(value=_mean_categories(lines, wheels))},
        notes=(MISSING_TOOL[task],) if task in MISSING_TOOL else (),
        generated=answers.origin,
        scored=Origin(git=git_state(), versions=versions("mer-r1", "numpy")),
    )


def _sampling(settings: RunSettings, mode: str) -> Sampling:
    return Sampling(
        # `generate` samples these forms at temperature 1, whatever --temperature says.
        temperature=1.0 if mode.endswith("_sampled") else settings.temperature,
        seed=settings.seed,
        max_tokens=settings.max_tokens,
        max_prompt_length=settings.max_prompt_length,
        dtype=settings.dtype,
    )


def _scores(
    lines: Sequence[Answer], basic: bool, wheels: EmotionWheels, bootstrap: int, seed: int, folder: Path
) -> dict[str, Metric]:
    gold, words = _labels_and_words(lines)
    metrics = _metrics(ew_scores(gold, words, wheels, bootstrap=bootstrap, seed=seed), ("F", "P", "R"))
    if not basic:
        return metrics
    try:
        hits = hit_rate(gold, words, wheels, bootstrap=bootstrap, seed=seed)
    except ValueError as error:
        raise InputError(f"{folder}: {error}") from error
    return metrics | _metrics(hits, ("hit",))


def _labels_and_words(lines: Sequence[Answer]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    return {line.name: line.labels for line in lines}, {line.name: line.words for line in lines}


def _metrics(scores: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Metric]:
    """Undefined numbers become None."""
    intervals = scores.get("ci95", {})
    return {key: Metric(**_numbers(scores[key], *intervals.get(key, (math.nan, math.nan)))) for key in keys}


def _numbers(value: float, low: float, high: float) -> dict[str, float | None]:
    named = {"value": value, "low": low, "high": high}
    return {key: None if math.isnan(number) else number for key, number in named.items()}


def _mean_categories(lines: Sequence[Answer], wheels: EmotionWheels) -> float:
    """Mean number of an answer's categories on a wheel (the paper's Figure 3 b), over all answers and wheels."""
    masks = wheels.wheel_masks()
    total = sum((wheels.mask(line.words) & mask).bit_count() for line in lines for mask in masks)
    return total / (len(lines) * len(masks))
