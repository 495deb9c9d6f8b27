"""Scores of a judged set of answers, per task and over all, and their file results.json."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from recipe.mer_r1.eval.judge.verdict import Verdict
from recipe.mer_r1.method.bootstrap import Score

TABLE_ORDER = ("ER-Lab", "ER-Wild", "FG-ER", "FG-SA", "ML-ER", "Noise-ER", "IR", "SA")
"""The tasks in the order of the paper's Table 2."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scores(_Model):
    """Means over answers, each 0 … 1; cot = ½ recognition + ½ reasoning."""

    n: int
    """The denominator."""
    recognition: float
    reasoning: float
    cot: float


class Summary(_Model):
    """Scores of some answers. Failed ones are in neither denominator: the endpoint failed, not the answer."""

    n: int
    n_scored: int
    n_unparseable: int
    n_failed: int
    official: Scores | None
    """Over the scored answers, as the benchmark's code has it; None where there is none."""
    strict: Scores | None
    """Over the scored and the unparseable answers, the latter worth 0; None where there is none."""


class Results(_Model):
    """Everything that is known of a run."""

    version: Literal[1] = 1
    answers: str
    answers_sha256: str
    shard: str
    shard_rows: int
    """More than `overall.n` where not every clip was answered or a limit was given."""
    limit: int | None
    endpoint: str
    judge_model: str
    extractor_model: str
    served_models: dict[str, int]
    """Replies by the name that the endpoint gave the model."""
    temperature: float
    seed: int | None
    prompt_sha256: str
    frames: dict[str, float]
    git: str | None
    versions: dict[str, str]
    overall: Summary
    """Over all answers, each counting alike."""
    tasks: dict[str, Summary]

    @property
    def identity(self) -> dict[str, Any]:
        """What must agree for two results to be compared. Without a reply, nobody knows what model served."""
        served = {"served as": ", ".join(sorted(self.served_models))} if self.served_models else {}
        models = {"model": self.judge_model, "extractor": self.extractor_model, **served}
        return {**models, "prompt": self.prompt_sha256[:12], "frames": self.frames, "temperature": self.temperature}


def summarize(verdicts: Iterable[Verdict]) -> Summary:
    """Counts and both scores."""
    verdicts = list(verdicts)
    scored = [verdict for verdict in verdicts if verdict.status == "scored"]
    unparseable = sum(verdict.status == "unparseable" for verdict in verdicts)
    return Summary(
        n=len(verdicts),
        n_scored=len(scored),
        n_unparseable=unparseable,
        n_failed=len(verdicts) - len(scored) - unparseable,
        official=_means(scored, len(scored)),
        strict=_means(scored, len(scored) + unparseable),
    )


def mean_score(verdicts: Sequence[Verdict], *, strict: bool = False) -> Score:
    """The official means (`strict`: the strict ones) for the bootstrap: of how often each answer was drawn."""
    counted = np.array(
        [verdict.status == "scored" or (strict and verdict.status == "unparseable") for verdict in verdicts], float
    )
    recognition, reasoning = (
        np.array([getattr(verdict, name) or 0.0 for verdict in verdicts]) for name in ("recognition", "reasoning")
    )

    def means(draws: np.ndarray) -> dict[str, np.ndarray]:
        """draws: (draws, answers) → each mean: (draws,)."""
        number = draws @ counted
        number[number == 0] = math.nan
        found = {"recognition": draws @ recognition / number, "reasoning": draws @ reasoning / number}
        return {**found, "cot": (found["recognition"] + found["reasoning"]) / 2}

    return means


def by_task(verdicts: Sequence[Verdict]) -> dict[str, Summary]:
    """A summary a task that has answers, in the table's order."""
    groups = {task: [verdict for verdict in verdicts if verdict.task == task] for task in TABLE_ORDER}
    return {task: summarize(group) for task, group in groups.items() if group}


def _means(scored: Sequence[Verdict], n: int) -> Scores | None:
    if not n:
        return None
    recognition = sum(verdict.recognition for verdict in scored) / n
    reasoning = sum(verdict.reasoning for verdict in scored) / n
    return Scores(n=n, recognition=recognition, reasoning=reasoning, cot=(recognition + reasoning) / 2)


def table(results: Results) -> str:
    """As in Table 2: CoT a task, all three over everything, times 100; then the counts."""
    heads = [*TABLE_ORDER, "Rec.", "Rea.", "CoT"]
    lines = [f"{'':12}" + "".join(f"{head:>9}" for head in heads)]
    for side in ("official", "strict"):
        tasks = [getattr(results.tasks[task], side) if task in results.tasks else None for task in TABLE_ORDER]
        whole: Scores | None = getattr(results.overall, side)
        values = [scores and scores.cot for scores in tasks]
        values += [whole.recognition, whole.reasoning, whole.cot] if whole else [None] * 3
        cells = ("-" if value is None else f"{100 * value:.1f}" for value in values)
        lines.append(f"{side:12}" + "".join(f"{cell:>9}" for cell in cells))
    for count in ("n", "n_unparseable", "n_failed"):
        numbers = [getattr(results.tasks[task], count) if task in results.tasks else 0 for task in TABLE_ORDER]
        cells = [*numbers, "", "", getattr(results.overall, count)]
        lines.append(f"{count.removeprefix('n_'):12}" + "".join(f"{cell:>9}" for cell in cells))
    return "\n".join(lines)
