"""One response of a batch from its words to its advantage, computed anew and held against what the file says."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch

from recipe.mer_r1.explain.rollout_batch import Row, group_of, number, signals_of, word_confidences
from recipe.mer_r1.method.advantage import Groups, Term, combine, term_values
from recipe.mer_r1.method.answer import FORMS, parse
from recipe.mer_r1.method.confidence import Reading, read, rewards
from recipe.mer_r1.method.experiments import Estimator
from recipe.mer_r1.method.margin import margins
from recipe.mer_r1.method.reward import Scores, SetScores, score_answer, wheel_scores
from recipe.mer_r1.method.wheel import EmotionWheels, Explanation
from recipe.mer_r1.method.word_confidence import NAN, Coverage, WordConfidence, coverage_of

TOLERANCE = 1e-5
"""Absolute and relative; the file's numbers were float32."""


@dataclass(frozen=True)
class Word:
    """A word of the answer."""

    span: tuple[int, int]
    """Its characters in the response."""
    explanation: Explanation
    correct: dict[str, bool | None]
    """By wheel: whether its category is true; None where it has none or the labels have none."""
    confidence: WordConfidence | None
    """None where the file has no confidences."""

    @property
    def verdict(self) -> str:
        """Of all wheels together."""
        known = {correct for correct in self.correct.values() if correct is not None}
        if not known:
            return "unknown"
        return "mixed" if len(known) > 1 else "correct" if known.pop() else "incorrect"


@dataclass(frozen=True)
class TermShare:
    """A term's way to the advantage: value, normalised inside the group, weighted."""

    term: Term
    group: list[float]
    """The term's value of every response of the group; NaN where undefined."""
    normalised: float
    contribution: float

    @property
    def mean(self) -> float:
        """Of the group's defined values."""
        return self._defined().mean().item()

    @property
    def std(self) -> float:
        """Of the group's defined values, unbiased; NaN where there are fewer than two."""
        values = self._defined()
        return values.std().item() if len(values) > 1 else NAN

    def _defined(self) -> torch.Tensor:
        values = torch.tensor(self.group, dtype=torch.float64)
        return values[~values.isnan()]


@dataclass(frozen=True)
class Check:
    """A number of the file's beside the one computed here."""

    name: str
    stored: float
    computed: float

    @property
    def agrees(self) -> bool:
        """Within ``TOLERANCE``, or both undefined."""
        if math.isnan(self.stored) or math.isnan(self.computed):
            return math.isnan(self.stored) and math.isnan(self.computed)
        return math.isclose(self.stored, self.computed, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


@dataclass(frozen=True)
class Trace:
    """All there is to say of a response."""

    row: Row
    group: list[Row]
    """The responses to its prompt, itself included, in file order."""
    wheels: EmotionWheels
    experiment: str
    words: list[Word]
    truth: dict[str, set[str]]
    """Categories of the labels by wheel; empty where they map nowhere."""
    by_wheel: dict[str, SetScores | None]
    scores: Scores
    names: list[tuple[str, str]]
    """``(wheel, category)`` of the confidences' columns; [] without confidences."""
    readings: list[Reading]
    """Words in order, and each wheel by wheel."""
    rewards: dict[str, float]
    """R⁺, R⁻ by category and word; {} without confidences."""
    margins: dict[str, float]
    coverage: Coverage
    """Of the readings; no readings where the file does not say."""
    terms: list[TermShare]
    advantage: float
    whitened: bool
    checks: list[Check]
    notes: list[str]
    """What could not be shown or compared, and why."""

    @property
    def position(self) -> int:
        """The response's place in its group, from 0."""
        return [row["uid"] for row in self.group].index(self.row["uid"])

    @property
    def subtitle(self) -> str | None:
        """The prompt's subtitle; None where the prompt is not of :func:`recipe.mer_r1.method.answer.build_prompt`."""
        ends = "|".join(re.escape(form.instruction) for form in FORMS.values())
        found = re.search(rf"Subtitle: (.*)\n(?:{ends})", self.row["input"], re.DOTALL)
        return found and found[1]

    def answered(self, wheel: str) -> list[str]:
        """Categories of the answer on a wheel, sorted."""
        return sorted({word.explanation.wheels[wheel].level1 for word in self.words} - {None})

    @property
    def differences(self) -> list[Check]:
        """Where the file says something else."""
        return [check for check in self.checks if not check.agrees]


def trace(
    row: Row, rows: Sequence[Row], wheels: EmotionWheels, experiment: str, form: str, estimator: Estimator
) -> Trace:
    """Follow ``row``, one of ``rows``.

    Args:
        experiment: the estimator's name.
        form: of the response, a key of ``answer.FORMS``.

    Raises:
        TermError: a term needs a signal that the file does not have.
    """
    labels, answer = row["gts"], parse(row["output"], form)
    truth = {wheel: wheels.categories(labels, wheel) for wheel in wheels.ids}
    scores = score_answer(answer, labels, wheels)
    confidences, names, notes = _confidences(row, answer.words, wheels)
    words = []
    for index, (text, span) in enumerate(zip(answer.words, answer.spans, strict=True)):
        category = {wheel: wheels.category(text, wheel) for wheel in wheels.ids}
        correct = {w: category[w] in truth[w] if category[w] and truth[w] else None for w in wheels.ids}
        words.append(Word(span, wheels.explain(text), correct, confidences[index] if names else None))
    readings = read(confidences, labels, wheels, names)
    found_rewards = rewards(readings) if names else {}
    if scores.format == 1 and number(row["signals"].get("format")) == 0 and "thought_tokens" in row:
        # The only rule that takes the format from a well-formed response.
        scores = replace(scores, format=0.0)
        notes.append(f"format 0 by mer_r1.min_thought_tokens: the thought has {row['thought_tokens']} tokens")
    group = [other for other in rows if group_of(other["uid"]) == group_of(row["uid"])]
    terms, advantage = _terms(group, group.index(row), estimator)
    computed = {**asdict(scores), **found_rewards}
    checks = [Check(name, number(row["signals"][name]), computed[name]) for name in row["signals"] if name in computed]
    checks += _advantage_checks(row, terms, advantage, estimator.whiten)
    if not row.get("terms"):
        notes.append("no advantage to compare with: the file has no terms, because the run used verl's own estimator")
    elif set(row["terms"]) != {share.term.name for share in terms}:
        notes.append(f"the run computed its advantage from other terms: {', '.join(row['terms'])}")
    return Trace(
        row=row,
        group=group,
        wheels=wheels,
        experiment=experiment,
        words=words,
        truth=truth,
        by_wheel=wheel_scores(labels, answer.words, wheels),
        scores=scores,
        names=names,
        readings=sorted(readings, key=lambda reading: answer.words.index(reading.word)),
        rewards=found_rewards,
        margins=margins(confidences, labels, wheels, names) if names else {},
        coverage=coverage_of(confidences),
        terms=terms,
        advantage=advantage,
        whitened=estimator.whiten,
        checks=checks,
        notes=notes,
    )


def _confidences(
    row: Row, words: list[str], wheels: EmotionWheels
) -> tuple[list[WordConfidence], list[tuple[str, str]], list[str]]:
    """The stored confidences with their columns' names; without names, and with a note, where they can't be shown."""
    if "words" not in row:
        return [], [], ["no confidences: the run had no confidence pass (no term of its experiment needs one)"]
    if not words and not row["words"]:
        return [], [], ["no confidences: the answer has no words"]
    confidences, names = word_confidences(row["words"])
    if [word.text for word in confidences] != words:
        stored = ", ".join(word.text for word in confidences) or "none"
        return [], [], [f"no confidences: the confidences in the file are for other words ({stored}) than the answer"]
    if not names:
        return [], [], ["no confidences: no word of this answer has its own first token"]
    if names != [(wheel, category) for wheel in wheels.ids for category in wheels.all_categories(wheel)]:
        return (
            [],
            [],
            [f"no confidences: the file does not use the wheels {wheels.name}; choose the run's wheels (--wheels)"],
        )
    return confidences, names, []


def _terms(group: Sequence[Row], position: int, estimator: Estimator) -> tuple[list[TermShare], float]:
    """Eq. 12 for one response."""
    signals, one_prompt = signals_of(group), [0] * len(group)
    result = combine(signals, one_prompt, estimator.terms)
    shares = []
    for term in estimator.terms:
        values = term_values(signals, term)
        normalised = Groups(one_prompt).normalise(values, 1e-6, term.least_spread)[position].item()
        shares.append(TermShare(term, values.tolist(), normalised, result[term.name][position].item()))
    return shares, result["advantage"][position].item()


def _advantage_checks(row: Row, terms: Sequence[TermShare], advantage: float, whitened: bool) -> list[Check]:
    """Terms that the file has, too; and the advantage, unless whitening over the batch's tokens came after."""
    stored = row.get("terms") or {}
    found = [
        Check(f"A[{s.term.name}]", number(stored[s.term.name]), s.contribution) for s in terms if s.term.name in stored
    ]
    if "advantage" in row and set(stored) == {share.term.name for share in terms} and not whitened:
        found.append(Check("advantage", number(row["advantage"]), advantage))
    return found
