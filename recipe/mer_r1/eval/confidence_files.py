"""Confidences beside a file of answers: slow.jsonl's in slow.confidence.jsonl, how they were read in ….meta.json."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from recipe.mer_r1.eval.answers import Answer
from recipe.mer_r1.eval.results import Reading
from recipe.mer_r1.files.errors import InputError, first_fault
from recipe.mer_r1.files.whole import write_whole

FORMS = ("slow", "fast")
"""The modes whose answers are read."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Form(_Model):
    """`category_confidence.FormConfidence` without the categories; nats, None where undefined."""

    truth: float | None
    negatives: float | None
    margin: float | None


class Line(_Model):
    """What is kept of a `ClipConfidence`.

    Attributes:
        response_sha256: of the response that was read; one that was made anew has another.
        own: the response as it stands.
        emptied: the same answer behind an emptied thought (Eq. 8).
        signals: R⁺ and R⁻ (Eq. 11) by name.
        categories: conf(c) (Eq. 1) of `own` by wheel and category.
    """

    index: int
    name: str
    response_sha256: str
    own: Form
    emptied: Form
    signals: dict[str, float | None]
    categories: dict[str, dict[str, float | None]]


class Meta(_Model):
    """What decides the numbers: a file holds those of one of it.

    Attributes:
        wheels: identity of the wheels whose categories were read.
        weights_sha256: of the model, as in settings.json.
    """

    version: Literal[1] = 1
    wheels: dict[str, str]
    weights_sha256: str
    reading: Reading


def confidence_path(answers: Path) -> Path:
    """Where the confidences of slow.jsonl lie."""
    return answers.with_suffix(".confidence.jsonl")


def meta_path(answers: Path) -> Path:
    """How they were read."""
    return answers.with_suffix(".confidence.meta.json")


def digest(response: str) -> str:
    """What tells whether a response is still the one that was read."""
    return hashlib.sha256(response.encode()).hexdigest()[:16]


def line(answer: Answer, own: Any, emptied: Any, signals: Mapping[str, float]) -> Line:
    """A line of two `FormConfidence`s; six decimals are more than fp32 gives."""
    forms = [
        Form(truth=_finite(form.truth), negatives=_finite(form.negatives), margin=_finite(form.margin))
        for form in (own, emptied)
    ]
    categories = {
        wheel: {category: value and _finite(value) for category, value in values.items()}
        for wheel, values in own.categories.items()
    }
    return Line(
        index=answer.index,
        name=answer.name,
        response_sha256=digest(answer.response),
        own=forms[0],
        emptied=forms[1],
        signals={name: _finite(value) for name, value in signals.items()},
        categories=categories,
    )


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def claim(answers: Path, meta: Meta) -> None:
    """Begin the file, or go on in one that was begun with the same settings.

    Raises:
        InputError: names what differs.
    """
    there = _read_meta(answers)
    if there is None:
        write_whole(meta_path(answers), meta.model_dump_json(indent=1).encode() + b"\n")
        return
    one, other = there.model_dump(), meta.model_dump()
    if differing := [key for key in one if one[key] != other[key]]:
        shown = "; ".join(f"{key}: {one[key]} there, {other[key]} here" for key in differing)
        raise InputError(
            f"{confidence_path(answers)} was computed with other settings ({shown}). Delete it and "
            f"{meta_path(answers).name} to compute it again."
        )


def read_confidences(path: Path, answers: Sequence[Answer]) -> tuple[dict[int, Line], Meta] | None:
    """The confidences of a file's answers by their index; None where nothing was read yet.

    Args:
        path: of the answers.

    Raises:
        InputError: half a line, a line of no answer, or of an answer that was made anew since.
    """
    meta, found = _read_meta(path), confidence_path(path)
    if meta is None or not found.is_file():
        return None
    *texts, rest = found.read_bytes().split(b"\n")
    if rest:
        raise InputError(
            f"{found}, line {len(texts) + 1}: cut off; run `main_eval confidence {path.parent}` to continue"
        )
    lines = [_parse(text, f"{found}, line {number}") for number, text in enumerate(texts, start=1)]
    return check({one.index: one for one in lines}, answers, found), meta


def check(lines: dict[int, Line], answers: Sequence[Answer], path: Path) -> dict[int, Line]:
    """The lines, if they are of these answers; InputError otherwise."""
    responses = {answer.index: digest(answer.response) for answer in answers}
    for one in lines.values():
        if responses.get(one.index) != one.response_sha256:
            raise InputError(
                f"{path}: the answer to {one.name!r} has changed; delete this file, then run `main_eval confidence`"
            )
    return lines


def _read_meta(answers: Path) -> Meta | None:
    path = meta_path(answers)
    if not path.is_file():
        if confidence_path(answers).is_file():
            raise InputError(
                f"{path}: no such file, but {confidence_path(answers).name} needs it; delete that one and compute again"
            )
        return None
    try:
        return Meta.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(
            f"{path}: {first_fault(error)}; delete it and the confidences, and compute them again"
        ) from error


def _parse(text: bytes, where: str) -> Line:
    try:
        return Line.model_validate(json.loads(text))
    except (ValidationError, ValueError) as error:
        what = first_fault(error) if isinstance(error, ValidationError) else str(error)
        raise InputError(f"{where}: {what}") from error
