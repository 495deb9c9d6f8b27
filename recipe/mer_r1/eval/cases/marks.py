"""What an answer got right, wrong and not at all: its words and the true labels, over all wheels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from recipe.mer_r1.method.wheel import EmotionWheels

Verdict = Literal["correct", "incorrect", "mixed", "unknown", "missed"]
SIGNS: dict[Verdict, str] = {"correct": "✓", "incorrect": "✗", "mixed": "≈", "unknown": "?", "missed": "○"}
"""For who sees no colours."""


@dataclass(frozen=True)
class Mark:
    """A word and what it is worth; `wheels` are those on which it is true (of a missed label: missed), if not all."""

    word: str
    verdict: Verdict
    wheels: tuple[str, ...] = ()


def marks(words: Sequence[str], labels: Sequence[str], wheels: EmotionWheels) -> list[Mark]:
    """Each word of an answer in order, then each label that it misses on a wheel.

    A word is correct where its category is true on every wheel that knows both it and the labels, mixed where on some,
    unknown where there is no such wheel.
    """
    return [_word(word, labels, wheels) for word in words] + list(_missed(words, labels, wheels))


def _word(word: str, labels: Sequence[str], wheels: EmotionWheels) -> Mark:
    correct = {}
    for wheel in wheels.ids:
        category, true = wheels.category(word, wheel), wheels.categories(labels, wheel)
        if category and true:
            correct[wheel] = category in true
    if not correct:
        return Mark(word, "unknown")
    right = tuple(wheel for wheel, is_true in correct.items() if is_true)
    if len(right) == len(correct):
        return Mark(word, "correct")
    return Mark(word, "mixed", right) if right else Mark(word, "incorrect")


def _missed(words: Sequence[str], labels: Sequence[str], wheels: EmotionWheels) -> Iterable[Mark]:
    for label in labels:
        known = {wheel: category for wheel in wheels.ids if (category := wheels.category(label, wheel))}
        missed = tuple(wheel for wheel, category in known.items() if category not in wheels.categories(words, wheel))
        if missed:
            yield Mark(label, "missed", missed if len(missed) < len(known) else ())
