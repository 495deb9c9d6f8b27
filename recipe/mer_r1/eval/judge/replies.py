"""How the judge's replies are read: strict and pure. What does not fit is unparseable, never guessed at."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_STEP_BLOCK = re.compile(r"<step>(.*?)</step>", re.DOTALL)
_SCORE_BLOCK = re.compile(r"<score>(.*?)</score>", re.DOTALL)
# ASCII alone: int() would read digits of any script.
_STEP_LINE = re.compile(r"Step ([0-9]+):[ \t]*(\S.*)")
_SCORE = re.compile(r"Step ([0-9]+):\s*([0-9]+)/([0-9]+)")
# A newline may stand for a comma, or after one.
_BETWEEN_SCORES = re.compile(r"\s*,\s*|\s*\n\s*")


class UnparseableError(ValueError):
    """A reply that is not of the form that was asked for; the message says in what."""


@dataclass(frozen=True, slots=True)
class Rating:
    """The scores of an answer's steps, each in 0 … 1; the last is that of the predicted label."""

    scores: tuple[Fraction, ...]

    @property
    def recognition(self) -> Fraction:
        """The score of the predicted label."""
        return self.scores[-1]

    @property
    def reasoning(self) -> Fraction:
        """Mean score of the steps before it; 0 where there is none, as the benchmark has it."""
        steps = self.scores[:-1]
        return sum(steps, Fraction()) / len(steps) if steps else Fraction()


def read_steps(reply: str) -> list[str]:
    """The texts of `<step>Step 1: … Step 2: …</step>`, a step a line; the last one is the predicted label.

    Text around the tags is let pass, and so is a pair of tags a step: the numbers, which must be 1, 2, …, leave no
    doubt about the order.

    Raises:
        UnparseableError: no closed `<step>`, a line of another form, or other numbers.
    """
    blocks = _STEP_BLOCK.findall(reply)
    if not blocks or reply.count("<step>") != len(blocks) or reply.count("</step>") != len(blocks):
        raise UnparseableError("the tags <step> … </step> are missing or do not match")
    # Not splitlines: U+2028 inside a step is text.
    lines = [line.strip() for block in blocks for line in block.split("\n") if line.strip()]
    steps = []
    for number, line in enumerate(lines, start=1):
        found = _STEP_LINE.fullmatch(line)
        if not found or found[1] != str(number):
            raise UnparseableError(f"line {number} of <step> must be 'Step {number}: …', but is {line[:80]!r}")
        steps.append(found[2])
    if not steps:
        raise UnparseableError("<step> is empty")
    return steps


def read_scores(reply: str, steps: int, labels: int | None = None) -> Rating:
    """The scores of `<score>Step 1: 1/1, …</score>`.

    Args:
        reply: the judge's words.
        steps: how many were to be rated, at least 1.
        labels: K, the number of true labels, where the last score is C/K; None where it is 0/1 or 1/1.

    Raises:
        UnparseableError: not exactly one `<score>`, another number of scores, or a score that may not be given.
    """
    blocks = _SCORE_BLOCK.findall(reply)
    if len(blocks) != 1 or reply.count("<score>") != 1 or reply.count("</score>") != 1:
        raise UnparseableError("the reply must contain exactly one <score> … </score>")
    items = _BETWEEN_SCORES.split(blocks[0].strip())
    if len(items) != steps:
        raise UnparseableError(f"{len(items)} scores for {steps} steps")
    scores = []
    for number, item in enumerate(items, start=1):
        found = _SCORE.fullmatch(item)
        if not found or found[1] != str(number):
            raise UnparseableError(f"score {number} must be 'Step {number}: C/K', but is {item[:80]!r}")
        whole = labels if labels is not None and number == steps else 1
        allowed = [f"{part}/{whole}" for part in range(whole + 1)]
        given = f"{found[2]}/{found[3]}"
        if given not in allowed:
            raise UnparseableError(f"score {number} is {given}, but must be one of {', '.join(allowed)}")
        scores.append(Fraction(int(found[2]), whole))
    return Rating(tuple(scores))
