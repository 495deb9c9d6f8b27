"""From what a finished run has left (metrics.jsonl, answers, confidences) to its record."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipe.mer_r1.ablation.plan import Run
from recipe.mer_r1.ablation.record import (
    FAILED,
    FINISHED,
    SCORES,
    Clips,
    Confidence,
    FormMetrics,
    Git,
    Metrics,
    Record,
    Training,
)
from recipe.mer_r1.eval.answer_modes import MODES
from recipe.mer_r1.eval.confidence_files import FORMS, confidence_path
from recipe.mer_r1.eval.fingerprints import weights_sha256
from recipe.mer_r1.eval.records import by_clip
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.files.provenance import git_state, versions
from recipe.mer_r1.method.retained import retained_hit_rate
from recipe.mer_r1.method.wheel import load_wheels
from recipe.mer_r1.pipeline.progress import read_steps
from recipe.mer_r1.run.record import read_starts

CURVES = (
    *(f"reward/{name}" for name in ("f1", "recall", "precision", "format", "num_words")),
    *(f"reward/{name}" for name in ("thought_tokens", "thought_empty")),
    *(f"proposition_1/{name}" for name in ("tau", "log_tau", "follows")),
    *(f"proposition_1/corr_{reward}_{of}" for of in ("f1", "dual") for reward in ("recall", "precision")),
    *(f"confidence/calib_{side}/{what}" for side in ("pos", "neg") for what in ("mean", "undefined")),
    *(f"confidence/{what}_{form}/mean" for what in ("gt", "margin") for form in FORMS),
    *(f"advantage/calib_{side}/{what}" for side in ("pos", "neg") for what in ("std", "constant_groups")),
    *("advantage/std", "actor/kl_loss", "actor/grad_norm", "actor/entropy", "train/loss"),
)
"""Metrics of each step that a record keeps, where the run has them."""
_LIBRARIES = ("mer-r1", "verl", "vllm", "torch", "transformers", "ray", "numpy")
_DIGITS = 4


def finished(run: Run, seconds: float, notes: Sequence[str] = ()) -> Record:
    """The record of a run that ended well.

    Args:
        seconds: that its training took, all attempts.
        notes: what is missing.

    Raises:
        InputError: an answer file is missing or holds half a line.
    """
    lines = {mode: _lines(path) for mode in MODES if (path := run.answers / f"{mode}.jsonl").is_file()}
    if not lines:
        raise InputError(f"{run.answers}: no answers in this folder")
    found, names = {}, [clip[0]["name"] for clip in by_clip(next(iter(lines.values())))]
    forms: dict[str, dict[str, list[float | None]]] = {}
    for mode, those in lines.items():
        clips = by_clip(those)
        if [clip[0]["name"] for clip in clips] != names:
            raise InputError(f"{run.answers / f'{mode}.jsonl'}: has other clips than {next(iter(lines))}.jsonl")
        found[mode] = form_metrics(clips)
        forms[mode] = {score: [_score(clip, score) for clip in clips] for score in SCORES}
    metrics = Metrics(forms=found, confidence=_confidences(run.answers), retained_hit=_retained(lines))
    return _record(
        run,
        state=FINISHED,
        notes=list(notes),
        metrics=metrics,
        training=training(run.trained / "metrics.jsonl", seconds),
        clips=Clips(names=names, forms=forms),
    )


def failed(run: Run, reason: str, log: Sequence[str]) -> Record:
    """The record of a run that did not end well."""
    return _record(run, state=FAILED, reason=reason, log=list(log))


def _record(run: Run, **fields: Any) -> Record:
    """With what every record has. The code is that of the last start of the training, where there was one."""
    starts = read_starts(run.trained)
    state = (starts[-1]["git"] if starts else git_state()) or ""
    return Record(
        row=run.row,
        experiment=run.experiment,
        seed=run.seed,
        git=Git(commit=state.removesuffix("+dirty") or None, dirty=state.endswith("+dirty")),
        versions=starts[-1]["versions"] if starts else versions(*_LIBRARIES),
        overrides=list(run.overrides),
        settings_sha256=run.settings_sha256,
        settings=run.settings,
        start_sha256=weights_sha256(run.sft_model) if run.sft_model.is_dir() else None,
        **fields,
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    *texts, rest = path.read_bytes().split(b"\n")
    if rest:
        raise InputError(f"{path}, line {len(texts) + 1}: cut off")
    return [json.loads(text) for text in texts]


def _mean(clip: Sequence[dict[str, Any]], key: str) -> float:
    return statistics.fmean(line[key] for line in clip)


def _score(clip: Sequence[dict[str, Any]], score: str) -> float | None:
    return round(_mean(clip, score), _DIGITS) if clip[0]["wheels"] else None


def form_metrics(clips: Sequence[Sequence[dict[str, Any]]]) -> FormMetrics:
    """Means over the clips whose labels map on a wheel.

    Raises:
        InputError: there is none, or the clips have different numbers of answers.
    """
    scored = [clip for clip in clips if clip[0]["wheels"]]
    samples = {len(clip) for clip in clips}
    if not scored or len(samples) > 1:
        raise InputError(f"answers of {len(scored)} clips with labels on a wheel, {sorted(samples)} for each clip")
    means = {key: statistics.fmean(_mean(clip, key) for clip in scored) for key in _KEYS}
    f1 = [_mean(clip, "f1") for clip in scored]
    return FormMetrics(
        n=len(scored),
        samples=samples.pop(),
        f1_stderr=_rounded(statistics.stdev(f1) / math.sqrt(len(f1))) if len(f1) > 1 else None,
        n_failed=sum(any("failed" in line for line in clip) for clip in scored),
        **{_KEYS[key]: _rounded(value) for key, value in means.items()},
    )


_KEYS = {key: key for key in (*SCORES, "categories", "format", "tokens")} | {"num_words": "words"}


def _rounded(value: float) -> float:
    return round(value, 6)


def _confidences(answers: Path) -> dict[str, Confidence]:
    found = {}
    for form in FORMS:
        path = confidence_path(answers / f"{form}.jsonl")
        if not path.is_file():
            continue
        own = [line["own"] for line in _lines(path)]
        means = {}
        for key in ("truth", "margin"):
            values = [one[key] for one in own if one[key] is not None]
            means[key] = _rounded(statistics.fmean(values)) if values else None
        found[form] = Confidence(**means, n=len(own))
    return found


def _retained(lines: dict[str, list[dict[str, Any]]]) -> float | None:
    """Of the greedy answers; None without them, or where no fast answer has a hit."""
    if not {"slow", "fast"} <= lines.keys():
        return None
    gold = {line["name"]: line["labels"] for line in lines["slow"]}
    slow, fast = ({line["name"]: line["words"] for line in lines[form]} for form in ("slow", "fast"))
    value = retained_hit_rate(gold, slow, fast, load_wheels(None))["retained_hit"]
    return None if math.isnan(value) else _rounded(value)


def training(metrics: Path, seconds: float) -> Training:
    """Of a metrics file; steps without a metric have None in its curve."""
    taken = read_steps(metrics)
    steps = {step: data for step, data in taken.items() if "timing_s/step" in data or "train/loss" in data}
    times = [data[key] for data in steps.values() for key in ("timing_s/step", "perf/step_seconds") if key in data]
    curves = {name: [_short(data.get(name)) for data in steps.values()] for name in CURVES}
    return Training(
        steps=len(steps),
        seconds_per_step=round(statistics.median(times), 3) if times else None,
        seconds=round(seconds, 1),
        curves={name: curve for name, curve in curves.items() if any(value is not None for value in curve)},
    )


def _short(value: float | None) -> float | None:
    """Four significant digits."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")
