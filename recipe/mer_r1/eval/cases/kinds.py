"""The paper's three kinds of cases (Appendix E) as rules on emotion categories, and the clips they hold for.

A rule looks at one wheel at a time, at level 1, as the rewards do (Eq. 4): at the true categories and at those of three
answers, the baseline's fast and slow one and the slow one of MER-R1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from recipe.mer_r1.eval.cases.inputs import Clip
from recipe.mer_r1.method.reward import sample_scores
from recipe.mer_r1.method.wheel import EmotionWheels

Categories = set[str]
Rule = Callable[[Categories, Categories, Categories, Categories], Categories]


def retained(true: Categories, fast: Categories, slow: Categories, final: Categories) -> Categories:
    """True categories that the baseline's fast answer has, its slow one drops, and MER-R1's slow one has."""
    return true & fast & final - slow


def suppressed(true: Categories, fast: Categories, slow: Categories, final: Categories) -> Categories:
    """Wrong categories of the baseline's fast answer that MER-R1's slow one leaves out.

    None where the fast answer has no true category (it is wrong, and does not cover too much), where the slow one loses
    a true one of it, or where it has as many wrong ones (they were exchanged).
    """
    covered = true & fast
    if not covered or not covered <= final or len(final - true) >= len(fast - true):
        return set()
    return fast - true - final


def recovered(true: Categories, fast: Categories, slow: Categories, final: Categories) -> Categories:
    """True categories that the baseline's fast answer misses and MER-R1's slow one has."""
    return true & final - fast


@dataclass(frozen=True)
class Kind:
    """A kind of case."""

    title: str
    meaning: str
    """In words; `{baseline}` and `{mer_r1}` stand for the models' names."""
    holds: str
    """The rule on one wheel, in words, with the same placeholders."""
    rule: Rule
    effect: str
    """What happened to the categories that the rule finds."""
    compared: Literal["slow", "fast"]
    """The baseline's answer that is made better."""


KINDS = (
    Kind(
        "Fast-intuition retention",
        "Fast thinking of {baseline} names a true emotion, its slow thinking drops it, and slow thinking of {mer_r1} "
        "keeps it.",
        "a true category is in the fast answer of {baseline}, not in its slow answer, and in the slow answer of "
        "{mer_r1}.",
        retained,
        "Kept",
        "slow",
    ),
    Kind(
        "Spurious emotion suppression",
        "Fast thinking of {baseline} names wrong emotions besides true emotions; slow thinking of {mer_r1} leaves the "
        "wrong emotions out.",
        "a wrong category is in the fast answer of {baseline} and not in the slow answer of {mer_r1}. This slow answer "
        "has all true categories of that fast answer (at least one) and fewer wrong categories in total.",
        suppressed,
        "Left out",
        "fast",
    ),
    Kind(
        "Missed emotion recovery",
        "Fast thinking of {baseline} misses a true emotion that slow thinking of {mer_r1} finds.",
        "a true category is not in the fast answer of {baseline}, but is in the slow answer of {mer_r1}.",
        recovered,
        "Found",
        "fast",
    ),
)
RANKING = (
    "A clip is a case if the rule holds on more than half of the wheels that know its labels. Score: number of "
    "categories that the rule finds, averaged over these wheels. The highest score comes first. Cases with equal "
    "scores are sorted by the rise of F1 from the answer of {baseline} (slow for retention, else fast) to the slow "
    "answer of {mer_r1}, then by the order of the shard."
)


@dataclass(frozen=True)
class Case:
    """A clip for which a kind's rule holds.

    Attributes:
        found: wheel → the categories that the rule finds; wheels on which it does not hold are left out.
        score: number of these categories, mean over the wheels on which the labels map.
        gain: F1 of MER-R1's slow answer less that of the baseline's `Kind.compared` one, in −1..1.
    """

    clip: Clip
    found: dict[str, Categories]
    score: float
    gain: float


def find(kind: Kind, clips: Sequence[Clip], wheels: EmotionWheels) -> list[Case]:
    """All cases of a kind, best first (see RANKING)."""
    cases = (_case(kind, clip, wheels) for clip in clips)
    return sorted((case for case in cases if case), key=lambda case: (-case.score, -case.gain, case.clip.index))


def _case(kind: Kind, clip: Clip, wheels: EmotionWheels) -> Case | None:
    words = (clip.labels, clip.baseline.fast.words, clip.baseline.slow.words, clip.mer_r1.slow.words)
    found, taking_part = {}, 0
    for wheel in wheels.ids:
        true, fast, slow, final = (wheels.categories(each, wheel) for each in words)
        taking_part += bool(true)
        if categories := true and kind.rule(true, fast, slow, final):
            found[wheel] = categories
    if 2 * len(found) <= taking_part:
        return None
    score = sum(map(len, found.values())) / taking_part
    before = clip.baseline.slow if kind.compared == "slow" else clip.baseline.fast
    return Case(
        clip, found, score, _f1(clip.labels, clip.mer_r1.slow.words, wheels) - _f1(clip.labels, before.words, wheels)
    )


def _f1(labels: Sequence[str], words: Sequence[str], wheels: EmotionWheels) -> float:
    scores = sample_scores(labels, words, wheels)
    return scores.f1 if scores else 0.0
