"""What the page shows, from replies, log-confidences and labels: plain data for one wheel. No gradio, no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recipe.mer_r1.method.answer import parse
from recipe.mer_r1.method.wheel import EmotionWheels

if TYPE_CHECKING:
    from recipe.mer_r1.eval.rollout import Reply

FORMS = ("slow", "fast")
LogConfidence = Mapping[str, Mapping[str, float | None]]
"""By wheel, then category: log Σ p(e) in nats where the answer's first word begins (Eq. 1); None without tokens."""


@dataclass(frozen=True)
class Word:
    """A word of an answer on the wheel.

    Attributes:
        category: None where the wheel does not know the word.
        correct: whether the labels have that category; None without labels on the wheel, or without a category.
    """

    text: str
    category: str | None
    correct: bool | None


@dataclass(frozen=True)
class AnswerView:
    """A response taken apart.

    Attributes:
        named: the answer's categories on the wheel, in the wheel's order.
        mean_named: number of categories that the answer names, averaged over all wheels.
        notes: what is wrong with the response, in words.
    """

    form: str
    thought: str
    words: tuple[Word, ...]
    named: tuple[str, ...]
    mean_named: float
    notes: tuple[str, ...]
    response: str
    tokens: int


@dataclass(frozen=True)
class Bar:
    """A category: log-confidence in nats by form (None: undefined), the forms that name it, whether it is true."""

    category: str
    values: Mapping[str, float | None]
    named_by: tuple[str, ...]
    true: bool


@dataclass(frozen=True)
class View:
    """The results on one wheel."""

    wheel: str
    labels: tuple[str, ...]
    truth: tuple[str, ...]
    answers: tuple[AnswerView, ...]
    bars: tuple[Bar, ...]


def view(
    replies: Mapping[str, Reply],
    confidence: Mapping[str, LogConfidence],
    labels: Sequence[str],
    wheels: EmotionWheels,
    wheel: str,
) -> View:
    """The results on a wheel.

    Args:
        replies: by form.
        confidence: by form; a form that has no words is missing.
        labels: the clip's true emotion words; empty for a clip that has none.
    """
    known = wheels.all_categories(wheel)
    true = wheels.categories(labels, wheel)
    answers = tuple(_answer(form, replies[form], true, wheels, wheel) for form in FORMS)
    bars = []
    for category in known:
        values = {form: confidence.get(form, {}).get(wheel, {}).get(category) for form in FORMS}
        named_by = tuple(answer.form for answer in answers if category in answer.named)
        bars.append(Bar(category, values, named_by, category in true))
    truth = tuple(category for category in known if category in true)
    return View(wheel, tuple(labels), truth, answers, _likeliest_first(bars) if confidence else ())


def _answer(form: str, reply: Reply, true: set[str], wheels: EmotionWheels, wheel: str) -> AnswerView:
    answer = parse(reply.text)
    words = []
    for text in answer.words:
        category = wheels.category(text, wheel)
        words.append(Word(text, category, category in true if category and true else None))
    found = {word.category for word in words}
    bits = wheels.mask(answer.words)
    counts = [(bits & mask).bit_count() for mask in wheels.wheel_masks()]
    return AnswerView(
        form,
        answer.think,
        tuple(words),
        tuple(category for category in wheels.all_categories(wheel) if category in found),
        sum(counts) / len(counts),
        tuple(_notes(reply, bool(words), answer.well_formed)),
        reply.text,
        reply.tokens,
    )


def _notes(reply: Reply, has_words: bool, well_formed: bool) -> list[str]:
    notes = []
    if not reply.finished:
        notes.append(f"The response was cut off after {reply.tokens} tokens (max_response_length of the preset).")
    if not has_words:
        notes.append("The response has no closed <answer> with words, so it names no emotion.")
    elif not well_formed:
        notes.append("The response does not have the form <think>…</think><answer>…</answer>.")
    return notes


def _likeliest_first(bars: Sequence[Bar]) -> tuple[Bar, ...]:
    """By the higher of the two confidences; categories without any stand last, in the wheel's order."""

    def highest(bar: Bar) -> float:
        return max((value for value in bar.values.values() if value is not None), default=float("-inf"))

    return tuple(sorted(bars, key=highest, reverse=True))
