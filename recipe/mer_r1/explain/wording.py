"""What the terminal and the page say alike."""

from __future__ import annotations

import math

from recipe.mer_r1.explain.trace import TermShare, Trace
from recipe.mer_r1.method.advantage import Term
from recipe.mer_r1.pages.visible import visible

SHORT = {"calib_pos": "R⁺", "calib_neg": "R⁻", "calib_pos_word": "R⁺ word", "calib_neg_word": "R⁻ word"}
"""Signals as the paper writes them."""


def figure(value: float, signed: bool = False) -> str:
    """A number for a table; a dash where undefined."""
    return "–" if math.isnan(value) else f"{value:+.3f}" if signed else f"{value:.3f}"


def segments(found: Trace) -> list[tuple[str, str]]:
    """The response in pieces ``(text, verdict)``; "" for what is no word of the answer."""
    text, pieces, end = found.row["output"], [], 0
    for word in found.words:
        start, stop = word.span
        pieces += [(visible(text[end:start]), ""), (visible(text[start:stop]), word.verdict)]
        end = stop
    return [*pieces, (visible(text[end:]), "")]


def answer_of(output: str) -> str:
    """The answer of a response in short, for a row of the group; its end where it has none."""
    return visible(output.rpartition("<answer>")[2].removesuffix("</answer>").strip())


def formula(term: Term) -> str:
    """``recall + 0.1 R⁺``."""
    parts = (f"{'' if factor == 1 else f'{factor:g} '}{SHORT.get(name, name)}" for name, factor in term.signals.items())
    return " + ".join(parts)


def normalised(share: TermShare, found: Trace) -> str:
    """A term's value inside the group; a dash where it is undefined, and adds 0."""
    return figure(share.normalised if not math.isnan(share.group[found.position]) else math.nan, signed=True)


def verdict(found: Trace) -> str:
    """Whether what is shown is what the run computed."""
    if different := found.differences:
        listed = "; ".join(f"{c.name}: file {figure(c.stored)}, here {figure(c.computed)}" for c in different)
        return (
            f"differs from the file in {len(different)} of {len(found.checks)} numbers: {listed}. Perhaps the "
            f"wheels (--wheels; here {found.wheels.name}), the experiment or its weights differ from those of the run."
        )
    return f"agrees with the file: {len(found.checks)} numbers"


def paths(found: Trace) -> list[tuple[str, str, str, str, str]]:
    """Rows ``(word, wheels, form, candidate, category)``; wheels on which a word goes the same way share one."""
    rows = []
    for word in found.words:
        ways: dict[tuple[str, str, str], list[str]] = {}
        for wheel, choice in word.explanation.wheels.items():
            way = (choice.form or "–", choice.candidate or "–", choice.level1 or "–")
            ways.setdefault(way, []).append(wheel)
        name = found.row["output"][slice(*word.span)]
        rows += [(visible(name), " ".join(wheels), *map(visible, way)) for way, wheels in ways.items()]
    return rows


def covered(found: Trace) -> str:
    """How many readings have the word's own first token in their category's set; "" where the file does not say."""
    seen = found.coverage
    if not seen.readings:
        return ""
    first = f"{seen.first_covered} of {seen.first_readings} at the first word"
    return f"Own first token in the category's set (Eq. 1): {seen.covered} of {seen.readings} readings, {first}."


def uncounted(found: Trace) -> list[str]:
    """Words that take no part in the calibration, and why; [] without confidences."""
    notes, seen = [], set()
    for word in found.words:
        text = found.row["output"][slice(*word.span)]
        why = ""
        if word.confidence and not word.confidence.rows:
            why = "is already earlier in the answer" if text.lower() in seen else "has no own first token"
        elif word.confidence and word.verdict == "unknown":
            why = "has no category on a wheel that takes part"
        if why:
            notes.append(f"“{visible(text)}” takes no part: it {why}")
        seen.add(text.lower())
    return notes
