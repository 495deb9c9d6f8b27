"""A trace as one HTML page: no scripts, no other files, light or dark as the reader's system is."""

from __future__ import annotations

import math
from html import escape

from recipe.mer_r1.eval.clip_pictures import Picture
from recipe.mer_r1.explain.trace import Trace, Word
from recipe.mer_r1.explain.wording import (
    SHORT,
    answer_of,
    covered,
    figure,
    formula,
    normalised,
    paths,
    segments,
    uncounted,
    verdict,
    visible,
)
from recipe.mer_r1.pages.html_page import document, table
from recipe.mer_r1.pages.terms import WHEELS

_STYLE = """
.wheels { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .6rem; }
.wheel { background: var(--card); border-radius: .4rem; padding: .5rem .7rem; font-size: .85rem; }
.category { display: grid; grid-template-columns: 5.5rem 1fr 6.5rem; gap: .5rem; align-items: center; }
.bar { height: .35rem; margin: .1rem 0; border-radius: 2px; } .slow { background: var(--slow); }
.fast { background: var(--fast); } .key { display: inline-block; width: .8rem; height: .5rem; border-radius: 2px; }
.frames { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(11rem, 46%), 1fr)); gap: .4rem; }
.frames img { width: 100%; height: auto; border-radius: .3rem; }
.verdict { border-left: .3rem solid var(--good); background: var(--card); padding: .5rem .9rem; }
.verdict.differs { border-color: var(--bad); }
"""
_VERDICTS = ("correct", "incorrect", "mixed", "unknown")


def page(found: Trace, picture: Picture | None = None) -> str:
    """The whole page.

    Args:
        picture: of the clip; None: nothing is shown.
    """
    uid = escape(visible(found.row["uid"]))
    parts = [_head(found, uid), _picture(picture), _response(found), _paths(found), _scores(found)]
    if found.names:
        parts += [_readings(found), _bars(found)]
    parts += [_group(found), _advantage(found)]
    return document(uid, _STYLE, parts)


def _head(found: Trace, uid: str) -> str:
    row = found.row
    differs = " differs" if found.differences else ""
    notes = "".join(f'<p class="note">{escape(visible(note))}</p>' for note in found.notes)
    return (
        f'<h1>{uid}</h1><p class="soft">Response {found.position + 1} of {len(found.group)} to its prompt, step '
        f"{escape(str(row.get('step', '?')))}; advantage {figure(found.advantage, signed=True)} of experiment "
        f"{escape(found.experiment)}; {escape(found.wheels.name)} wheels.</p>"
        f'<p class="verdict{differs}">{escape(verdict(found))}</p>{notes}'
    )


def _picture(picture: Picture | None) -> str:
    if picture is None:
        return ""
    if picture.missing:
        return f'<h2>Clip</h2><p class="note">No frames: {escape(visible(picture.missing))}</p>'
    images = (
        f'<img src="{url}" alt="frame {number} of {len(picture.frames)}">'
        for number, url in enumerate(picture.frames, start=1)
    )
    return f'<h2>Clip</h2><div class="frames">{"".join(images)}</div>'


def _response(found: Trace) -> str:
    subtitle = found.subtitle
    what, prompt = ("Prompt", found.row["input"].strip()) if subtitle is None else ("Subtitle", subtitle)
    pieces = (f'<b class="{name}">{escape(text)}</b>' if name else escape(text) for text, name in segments(found))
    legend = " ".join(f'<span class="{name}">{name}</span>' for name in _VERDICTS)
    labels = escape(visible(", ".join(found.row["gts"])))
    return (
        f"<h2>Response</h2><p>{what}: {escape(visible(prompt))}<br>True words: {labels}</p>"
        f'<div class="response">{"".join(pieces)}</div><p class="soft">Words of the answer: {legend} (mixed: correct '
        "on some wheels only; unknown: on none of the wheels that take part)</p>"
    )


def _paths(found: Trace) -> str:
    rows = [[escape(cell) for cell in row] for row in paths(found)]
    shown = table(("word", "wheels", "form", "candidate", "category"), (), rows)
    return "<h2>From word to category</h2>" + (shown if rows else "<p>The answer has no words.</p>")


def _scores(found: Trace) -> str:
    rows = []
    for wheel, scores in found.by_wheel.items():
        truth = found.truth[wheel]
        said = ", ".join(
            f'<span class="{"correct" if name in truth else "incorrect"}">{escape(name)}</span>'
            if truth
            else escape(name)
            for name in found.answered(wheel)
        )
        numbers = map(figure, (scores.recall, scores.precision, scores.f1)) if scores else ("–",) * 3
        rows.append([wheel, escape(", ".join(sorted(truth))) or "– (takes no part)", said, *numbers])
    scores = found.scores
    rows.append(["mean", "", "", *map(figure, (scores.recall, scores.precision, scores.f1))])
    shown = table(("wheel", "true", "answered"), ("R", "P", "F1"), rows, marked={len(rows) - 1: "sum"})
    return f"<h2>Recall and precision (Eq. 4)</h2>{shown}<p>Format {scores.format:g}</p>"


def _readings(found: Trace) -> str:
    rows = []
    for r in found.readings:
        side = '<span class="correct">E⁺</span>' if r.correct else '<span class="incorrect">E⁻</span>'
        numbers = (figure(r.slow), figure(r.fast), figure(r.gap, signed=True), figure(r.gap_word, signed=True))
        rows.append([escape(visible(r.word)), r.wheel, escape(r.category), side, *numbers])
    notes = "".join(f"<p>{escape(note)}</p>" for note in filter(None, [covered(found), *uncounted(found)]))
    rewards = [
        [name, *(figure(found.rewards[f"calib_{side}{suffix}"], signed=True) for side in ("pos", "neg"))]
        for name, suffix in (("by category", ""), ("by word", "_word"))
    ]
    margins = [
        [mode, *(figure(found.margins[f"{part}_{mode}"]) for part in ("gt", "neg", "margin"))]
        for mode in ("slow", "fast")
    ]
    return (
        "<h2>Confidence of each word's category, in nats (Eq. 1, 9, 10)</h2>"
        + table(("word", "wheel", "category", "set"), ("slow", "fast", "Δ", "Δ word"), rows)
        + notes
        + "<h3>Calibration rewards (Eq. 11)</h3>"
        + table(("",), ("R⁺", "R⁻"), rewards)
        + "<h3>Margin at the first word, in nats (Eq. 2)</h3>"
        + table(("",), ("true", "3 likeliest others", "margin"), margins)
    )


def _bars(found: Trace) -> str:
    """Probabilities of all categories where each word begins."""
    parts = [
        f'<h2>Every category at the start of each word</h2><p class="soft">{WHEELS} Probability of the first tokens of '
        'a category: <span class="key slow"></span> slow, <span class="key fast"></span> fast. <span class="correct">'
        "True</span> "
        "categories are green; the category of the word is underlined.</p>"
    ]
    for word in found.words:
        if word.confidence and word.confidence.rows:
            cards = "".join(_card(found, word, wheel) for wheel in found.wheels.ids)
            parts.append(f'<h3>{escape(visible(word.confidence.text))}</h3><div class="wheels">{cards}</div>')
    return "\n".join(parts)


def _card(found: Trace, word: Word, wheel: str) -> str:
    own = word.explanation.wheels[wheel].level1
    lines = []
    for index, (of_wheel, category) in enumerate(found.names):
        if of_wheel != wheel:
            continue
        name = f"<u>{escape(category)}</u>" if category == own else escape(category)
        if category in found.truth[wheel]:
            name = f'<span class="correct">{name}</span>'
        values = {mode: math.exp(word.confidence.rows[mode][index]) for mode in ("slow", "fast")}
        bars = "".join(
            f'<div class="bar {mode}" style="width:{100 * value:.2f}%"></div>'
            for mode, value in values.items()
            if not math.isnan(value)
        )
        numbers = " · ".join(figure(value) for value in values.values())
        lines.append(
            f'<div class="category"><span>{name}</span><div>{bars}</div><span class="n">{numbers}</span></div>'
        )
    return f'<div class="wheel"><b>{wheel}</b>{"".join(lines)}</div>'


def _group(found: Trace) -> str:
    names = list(dict.fromkeys(name for share in found.terms for name in share.term.signals))
    rows = []
    for index, row in enumerate(found.group):
        values = [row["signals"].get(name) for name in names] + [row.get("advantage")]
        numbers = ["–" if value is None else figure(value) for value in values]
        rows.append([str(index + 1), escape(answer_of(row["output"])), *numbers])
    heads = [SHORT.get(name, name) for name in names]
    shown = table(("", "answer"), (*heads, "file's A"), rows, marked={found.position: "here"})
    return f"<h2>The group's signals</h2>{shown}"


def _advantage(found: Trace) -> str:
    rows = [
        [
            formula(share.term),
            figure(share.group[found.position]),
            figure(share.mean),
            figure(share.std),
            normalised(share, found),
            f"{share.term.weight:g}",
            figure(share.contribution, signed=True),
        ]
        for share in found.terms
    ]
    rows.append(["advantage", *[""] * 5, figure(found.advantage, signed=True)])
    heads = ("value", "group mean", "std", "normalised", "weight", "adds")
    shown = table(("term",), heads, rows, marked={len(rows) - 1: "sum"})
    after = "<p>After this, the advantage is whitened over the tokens of the batch.</p>" if found.whitened else ""
    return f"<h2>Advantage of {escape(found.experiment)} (Eq. 12)</h2>{shown}{after}"
