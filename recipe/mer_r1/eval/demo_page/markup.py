"""A view as HTML, and its style sheet: no scripts, no files from elsewhere, light or dark as the page is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

from recipe.mer_r1.eval.demo_page.view import FORMS, AnswerView, Bar, View, Word
from recipe.mer_r1.pages.terms import WHEELS
from recipe.mer_r1.pages.visible import visible

CSS = """
.gradio-container { --slow: #2b6cb0; --fast: #c06a12; --good: #187a3c; --bad: #b3261e;
  --soft: #5b6570; }
.dark .gradio-container, .gradio-container.dark { --slow: #6cb0f5; --fast: #f0a951; --good: #5fc884;
  --bad: #ff8a80; --soft: #a3adb8; }
/* gradio's own grey for a field's explanation is too light on white. */
.gradio-container { --block-info-text-color: var(--soft); }
.facts { display: grid; grid-template-columns: auto 1fr; gap: .1rem .9rem; font-size: .85rem; margin: 0; }
.facts dt { color: var(--soft); } .facts dd { margin: 0; overflow-wrap: anywhere; }
.card { background: var(--block-background-fill); border: 1px solid var(--border-color-primary);
  border-radius: .5rem; padding: .7rem 1rem; }
.card h3 { margin: 0 0 .4rem; font-size: 1rem; } .soft { color: var(--soft); font-size: .85rem; }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: .8rem; }
.answer.slow { border-top: .25rem solid var(--slow); } .answer.fast { border-top: .25rem solid var(--fast); }
.thought { margin: .2rem 0 .7rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.words { display: flex; flex-wrap: wrap; gap: .35rem; margin: .2rem 0 .6rem; }
.word { border: 1px solid var(--border-color-primary); border-radius: 1rem; padding: .05rem .7rem; font-weight: 600; }
.word small { font-weight: 400; color: var(--soft); }
.word.correct { border-color: var(--good); color: var(--good); }
.word.incorrect { border-color: var(--bad); color: var(--bad); }
.note { border-left: .25rem solid var(--fast); padding: .1rem .7rem; margin: .4rem 0; font-size: .9rem; }
.problem { border-left: .3rem solid var(--bad); } .problem p { overflow-wrap: anywhere; margin: .2rem 0; }
.raw { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; }
.key { display: inline-block; width: 1rem; height: .55rem; border-radius: 2px; margin-right: .3rem; }
.key.slow, .bar.slow { background: var(--slow); } .key.fast, .bar.fast { background: var(--fast); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .2rem 0 .6rem; font-size: .85rem; }
.category, .axis { display: grid; grid-template-columns: 8rem minmax(6rem, 1fr) 9.5rem; gap: .7rem;
  align-items: center; }
.category { padding: .22rem 0; } .category .name { text-align: right; overflow-wrap: anywhere; }
.category .name.true { color: var(--good); font-weight: 650; } .marks { font-size: .72rem; white-space: nowrap; }
.marks .slow { color: var(--slow); } .marks .fast { color: var(--fast); }
.plot { position: relative; }
.bar { position: relative; height: .55rem; margin: .12rem 0; border-radius: 0 2px 2px 0; min-width: 1px; }
.figures { font-size: .78rem; line-height: .8rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
.figures .slow { color: var(--slow); } .figures .fast { color: var(--fast); }
.gradio-container .log { color: var(--soft); } .axis .log { font-size: .75rem; }
.line { position: absolute; top: -.22rem; bottom: -.22rem; border-left: 1px solid var(--border-color-primary); }
.axis .plot { height: 1.3rem; border-top: 1px solid var(--soft); }
.tick { position: absolute; top: 0; white-space: nowrap; transform: translateX(-50%); font-size: .75rem;
  color: var(--soft); font-variant-numeric: tabular-nums; }
.axis.title .plot { border: 0; height: auto; text-align: center; font-size: .8rem; }
/* Trimming in the browser would fetch a program from elsewhere. */
@media (max-width: 34rem) {
  .category, .axis { grid-template-columns: 5.2rem minmax(3rem, 1fr) 3rem; gap: .4rem; }
  .log { display: none; }
  .card { padding: .6rem .7rem; } .axis .tick:nth-child(even) { display: none; }
  .category .name { font-size: .85rem; }
}
#clip button[aria-label^="Trim"], #clip button[aria-label^="Reset"] { display: none; }
"""
_TICKS = (0, 25, 50, 75, 100)
TITLES = {"slow": "Slow: thinks, then answers", "fast": "Fast: answers with an empty thought"}


def facts(entries: Mapping[str, str]) -> str:
    """What the page runs on, as a list of names and values."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in entries.items())
    return f'<dl class="facts">{rows}</dl>'


def problem(message: str) -> str:
    """Why there is no answer."""
    return f'<div class="card problem" role="alert"><h3>Error</h3><p>{_safe(message)}</p></div>'


def waiting(what: str) -> str:
    """What is being done."""
    return f'<div class="card soft">{escape(what)}</div>'


def answers(found: View) -> str:
    """Both answers side by side, and the labels where the clip has some."""
    labels = ""
    if found.labels:
        truth = ", ".join(found.truth) or "not on this wheel"
        labels = f'<p class="soft">True words: {_safe(", ".join(found.labels))} ({found.wheel}: {_safe(truth)})</p>'
    return labels + f'<div class="answers">{"".join(map(_answer, found.answers))}</div>'


def _answer(answer: AnswerView) -> str:
    thought = f'<div class="thought">{_safe(answer.thought)}</div>' if answer.thought else ""
    thinks = f'<div class="soft">thought</div>{thought}' if thought else '<div class="soft">no thought</div>'
    notes = "".join(f'<p class="note">{_safe(note)}</p>' for note in answer.notes)
    number = len(answer.named)
    named = f"{number} {'category' if number == 1 else 'categories'} on this wheel"
    return (
        f'<div class="card answer {answer.form}"><h3>{TITLES[answer.form]}</h3>{thinks}'
        f'<div class="soft">answer</div><div class="words">{"".join(map(_word, answer.words)) or "–"}</div>{notes}'
        f'<div class="soft named">names {named}, {answer.mean_named:.1f} on average over all wheels; '
        f"{answer.tokens} tokens</div>"
        f'<details class="soft"><summary>whole response</summary><div class="raw">{_safe(answer.response)}</div>'
        "</details></div>"
    )


def _word(word: Word) -> str:
    verdict = {True: " correct", False: " incorrect", None: ""}[word.correct]
    # A word that is its own category needs no arrow.
    if word.category is None:
        path = " <small>not on this wheel</small>"
    else:
        path = "" if word.category == word.text.lower() else f" <small>→ {_safe(word.category)}</small>"
    return f'<span class="word{verdict}">{_safe(word.text)}{path}</span>'


def bars(found: View) -> str:
    """Confidence of every category, both forms, as a probability from 0 to 100 %; beside it the log."""
    if not found.bars:
        return '<div class="card soft">No confidence: neither answer contains a word.</div>'
    true = '<span class="soft">green name: true</span>' if found.truth else ""
    legend = "".join(f'<span><span class="key {form}"></span>{form}</span>' for form in FORMS)
    ticks = "".join(f'<span class="tick" style="left:{tick}%">{tick} %</span>' for tick in _TICKS)
    return (
        f'<div class="card bars"><h3>Confidence of each category on {found.wheel}, at the start of the answer</h3>'
        f'<p class="soft">{WHEELS} {found.wheel} has the categories below; “Emotion wheel” chooses another one.</p>'
        f'<div class="legend">{legend}<span class="soft">● named by that answer</span>{true}</div>'
        + "".join(map(_bar, found.bars))
        + f'<div class="axis"><span></span><div class="plot">{ticks}</div><span></span></div>'
        '<div class="axis title soft"><span></span><div class="plot">probability of the first tokens (Eq. 1)</div>'
        '<span class="log">in brackets: log, nats</span></div></div>'
    )


def _bar(bar: Bar) -> str:
    marks = "".join(f'<span class="{form}" title="named by the {form} answer">●</span>' for form in bar.named_by)
    lines = [f'<span class="line" style="left:{tick}%"></span>' for tick in _TICKS]
    figures = []
    for form in FORMS:
        value = bar.values[form]
        # The smallest value is a hair line, an undefined one nothing.
        style = "width:0%;min-width:0" if value is None else f"width:{_share(value):.2f}%"
        lines.append(f'<div class="bar {form}" style="{style}"></div>')
        figure = "–" if value is None else f'{_percent(value)} <span class="log">({_number(value, 2)})</span>'
        figures.append(f'<span class="{form}">{figure}</span>')
    true = " true" if bar.true else ""
    return (
        f'<div class="category" data-category="{escape(bar.category)}"><span class="name{true}">'
        f'<span class="marks">{marks}</span> {_safe(bar.category)}</span><div class="plot">{"".join(lines)}</div>'
        f'<span class="figures">{"<br>".join(figures)}</span></div>'
    )


def _share(value: float) -> float:
    """Percent of a log-confidence; masses that rounding lifts over 1 end at the axis' end."""
    return min(100.0, 100 * math.exp(value))


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _percent(value: float) -> str:
    share = _share(value)
    return f"{share:.0f} %" if share >= 1 else "< 1 %"


def _safe(text: str) -> str:
    return escape(visible(text))
