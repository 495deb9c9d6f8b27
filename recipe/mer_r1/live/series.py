"""From a run's metrics by step to what the page draws: curves, shares of terms, seconds of phases."""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Steps = Mapping[int, Mapping[str, Any]]
"""Metrics by step, as :func:`recipe.mer_r1.run.steps.read` gives them."""

Validated = Mapping[tuple[str, str, str], list[tuple[int, float]]]
"""Curves of greedy answers by (source, "slow" or "fast", score)."""

LATEST = 10  # steps that a "now" is the mean of
_VALIDATION = re.compile(r"val-aux/(.+)/(slow|fast)/(recall|precision|f1|format)/mean@\d+")
_TERM = re.compile(r"advantage/([^/]+)/std")
# verl times these beside a step's phases: the whole step, and the validation that follows some steps.
_WHOLE, _TESTING = "timing_s/step", "timing_s/testing"
_SCORING = "perf/score_seconds"  # of SFT: the answers to validation clips after some steps
REST = "rest"


def curve(steps: Steps, key: str) -> list[tuple[int, float]]:
    """(step, value) of a metric where it is a finite number: verl writes NaN as null."""
    return [(number, float(data[key])) for number, data in steps.items() if _is_number(data.get(key))]


def validation(steps: Steps) -> Validated:
    """What the run's validations found."""
    found: dict[tuple[str, str, str], list[tuple[int, float]]] = defaultdict(list)
    for number, data in steps.items():
        for key, value in data.items():
            if key.startswith("val-aux/") and (match := _VALIDATION.fullmatch(key)) and _is_number(value):
                found[match.groups()].append((number, float(value)))
    return dict(found)


def over_sources(found: Validated, mode: str, score: str) -> list[tuple[int, float]]:
    """The plain mean over the sources of validation, (step, value)."""
    values: dict[int, list[float]] = defaultdict(list)
    for (_, of_mode, of_score), points in found.items():
        if (of_mode, of_score) == (mode, score):
            for number, value in points:
                values[number].append(value)
    return [(number, statistics.fmean(row)) for number, row in sorted(values.items())]


@dataclass(frozen=True)
class TermNow:
    """A term of the advantage (Eq. 12) over the latest steps.

    Attributes:
        std: of its part of the advantage, its weight included.
        share: of the sum of the terms' std.
        undefined: share of responses for which its signal is undefined.
        constant: share of groups in which it tells no response from another.
    """

    name: str
    std: float
    share: float
    undefined: float
    constant: float


def term_shares(steps: Steps) -> list[tuple[int, dict[str, float]]]:
    """Per step, each term's std over the sum of the terms' std; a step without any spread has only zeros."""
    rows = []
    for number, data in steps.items():
        stds = {
            match[1]: float(value)
            for key, value in data.items()
            if key.startswith("advantage/") and (match := _TERM.fullmatch(key)) and _is_number(value)
        }
        if stds:
            total = sum(stds.values()) or 1.0
            rows.append((number, {name: std / total for name, std in stds.items()}))
    return rows


def terms_now(steps: Steps) -> list[TermNow]:
    """The terms over the latest steps, in the order of the experiment's file."""
    shares = term_shares(steps)[-LATEST:]
    names = list(shares[-1][1]) if shares else []
    return [
        TermNow(
            name,
            std=latest_mean(steps, f"advantage/{name}/std"),
            share=statistics.fmean(parts.get(name, 0.0) for _, parts in shares),
            undefined=latest_mean(steps, f"advantage/{name}/undefined"),
            constant=latest_mean(steps, f"advantage/{name}/constant_groups"),
        )
        for name in names
    ]


def phases(steps: Steps) -> list[tuple[int, dict[str, float]]]:
    """Per training step, seconds by phase; what verl timed as the step but as no phase is ``rest``."""
    rows = []
    for number, data in steps.items():
        if _is_number(data.get(_WHOLE)):
            parts = {
                key.removeprefix("timing_s/"): float(value)
                for key, value in data.items()
                if key.startswith("timing_s/") and key not in (_WHOLE, _TESTING) and _is_number(value)
            }
            parts[REST] = max(0.0, data[_WHOLE] - sum(parts.values()))
            rows.append((number, parts))
    return rows


@dataclass(frozen=True)
class Slowest:
    """The phase that takes the most, over the latest steps; seconds are means a step."""

    name: str
    seconds: float
    step_seconds: float


def slowest(rows: list[tuple[int, dict[str, float]]]) -> Slowest | None:
    """None before the first step, or where no phase was timed: the rest is no phase."""
    means = phase_means(rows)
    timed = {name: seconds for name, seconds in means.items() if name != REST}
    if not timed:
        return None
    name = max(timed, key=lambda key: timed[key])
    return Slowest(name, means[name], sum(means.values()))


def phase_means(rows: list[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """Mean seconds of each phase over the latest steps; empty before the first step."""
    latest = [parts for _, parts in rows[-LATEST:]]
    names = dict.fromkeys(name for parts in latest for name in parts)
    return {name: sum(parts.get(name, 0.0) for parts in latest) / len(latest) for name in names}


def step_seconds(steps: Steps) -> list[float]:
    """Seconds of each step with its validation, RL or SFT: how long a metrics file may well stand still."""
    return [
        data.get(_WHOLE, data.get("perf/step_seconds", 0.0)) + (data.get(_TESTING) or data.get(_SCORING) or 0.0)
        for data in steps.values()
        if _WHOLE in data or "perf/step_seconds" in data
    ]


def latest_mean(steps: Steps, key: str) -> float:
    """Mean over the latest steps that have the metric; NaN where none has."""
    values = [value for _, value in curve(steps, key)[-LATEST:]]
    return statistics.fmean(values) if values else math.nan


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
