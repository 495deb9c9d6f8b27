"""Cases as one HTML page that needs no other file, for screen, phone and paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from recipe.mer_r1.eval.answers import Answer
from recipe.mer_r1.eval.cases.inputs import Comparison, Pair
from recipe.mer_r1.eval.cases.kinds import RANKING, Case, Kind
from recipe.mer_r1.eval.cases.marks import SIGNS, marks
from recipe.mer_r1.eval.clip_pictures import Picture
from recipe.mer_r1.eval.corpora import TITLES
from recipe.mer_r1.method.answer import FORMS, parse
from recipe.mer_r1.method.wheel import EmotionWheels
from recipe.mer_r1.pages.html_page import document, table
from recipe.mer_r1.pages.visible import visible

_STYLE = """
.missed { color: var(--soft); font-style: italic; } .words { list-style: none; padding: 0; margin: .4rem 0 0; }
.words li { display: inline-block; margin: 0 .9rem .1rem 0; overflow-wrap: anywhere; } .whole { white-space: nowrap; }
.legend { list-style: none; padding: 0; } .small { font-size: .85rem; }
.case { border-top: 2px solid var(--line); margin-top: 1.6rem; } .frames { display: flex; flex-wrap: wrap; gap: .3rem; }
.frames img { height: 7.5rem; max-width: 100%; border-radius: .3rem; }
.answers { display: grid; grid-template-columns: 1fr 1fr; gap: .6rem; margin: .8rem 0; }
.answer { background: var(--card); border-radius: .4rem; padding: .6rem .9rem; border: 2px solid transparent;
  min-width: 0; } .answer.used { border-color: var(--soft); }
.answer h4 { margin: 0; font-size: .85rem; color: var(--soft); font-weight: 600; }
.think { margin: .3rem 0 0; white-space: pre-wrap; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .6rem 0; } dd { margin: 0;
  overflow-wrap: anywhere; } dt { color: var(--soft); }
@media (max-width: 40rem) { .answers { grid-template-columns: 1fr; } .frames img { height: 5.2rem; } }
@media print { body { max-width: none; margin: 0; font-size: 10pt; } .answer { border-color: var(--line); }
  .answer.used { border-color: var(--ink); } .case, .answer { break-inside: avoid; }
  h2, h2 ~ p { break-after: avoid; } }
"""
_LEGEND = {
    "correct": "correct</span>: the word's category is true",
    "incorrect": "wrong</span>: the word's category is not true",
    "mixed": "mixed</span>: true only on the wheels in brackets",
    "unknown": "unknown</span>: the word is on none of the wheels that take part",
    "missed": "missed</span>: true, but not in the answer (for a label: on all wheels, or on the wheels in brackets)",
}


@dataclass(frozen=True)
class Section:
    """A kind with its cases; `exchanged` is their number with the two models in each other's place."""

    kind: Kind
    cases: list[Case]
    exchanged: int


@dataclass(frozen=True)
class Shown:
    """What the page is made of; rows and pictures are by row number, at most `count` cases of a kind are shown."""

    comparison: Comparison
    names: tuple[str, str]
    wheels: EmotionWheels
    sections: Sequence[Section]
    count: int
    rows: Mapping[int, Mapping[str, Any]]
    pictures: Mapping[int, Picture]


def page(shown: Shown) -> str:
    """The whole page."""
    names = _safe_names(shown)
    title = f"Cases: {names['mer_r1']} and {names['baseline']}"
    parts = [f"<h1>{title}</h1>", _about(shown), _counts(shown), _legend()]
    for section in shown.sections:
        parts.append(_section(section, shown))
    return document(title, _STYLE, parts)


def _safe_names(shown: Shown) -> dict[str, str]:
    return dict(zip(("baseline", "mer_r1"), map(_text, shown.names), strict=True))


def _text(text: str) -> str:
    return escape(visible(text))


def _about(shown: Shown) -> str:
    baseline, mer_r1 = shown.comparison.results
    part = f", of {baseline.n_shard} in the shard" if baseline.partial else ""
    scored = shown.wheels
    return _facts(
        (shown.names[0], baseline.model),
        (shown.names[1], mer_r1.model),
        ("Clips", f"{TITLES.get(baseline.corpus, baseline.corpus)}, {baseline.split}: {baseline.n}{part}"),
        ("Answers", f"temperature {baseline.sampling.temperature:g}, at most {baseline.sampling.max_tokens} tokens"),
        ("Wheels", f"{scored.name} {scored.version} ({scored.sha256[:12]}), level 1"),
    )


def _facts(*facts: tuple[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts) + "</dl>"


def _counts(shown: Shown) -> str:
    comparison, names = shown.comparison, _safe_names(shown)
    rows = [
        [_text(each.kind.title), *map(str, (len(each.cases), each.exchanged, min(shown.count, len(each.cases))))]
        for each in shown.sections
    ]
    left_out = "".join(
        f" Clips that cannot be a case because {why}: {number}."
        for number, why in (
            (comparison.unmapped, "their labels are on no wheel"),
            (comparison.unanswered, "one of the four answers has no word"),
        )
        if number
    )
    heads = ("clips", "with the models exchanged", "shown")
    return (
        f"<h2>Number of cases</h2>{table(('kind',), heads, rows)}"
        f"<p>Of {len(comparison.clips)} clips.{left_out} “Exchanged” counts the same rule with {names['baseline']} and "
        f"{names['mer_r1']} exchanged: a kind that is as frequent there is no evidence for either model. The cases "
        "below are selected, the clearest first; they show what happens, not how often.</p>"
        f'<p class="soft small">{RANKING.format(**names)}</p>'
    )


def _legend() -> str:
    items = "".join(
        f'<li><span class="{verdict}">{SIGNS[verdict]} {meaning}</li>' for verdict, meaning in _LEGEND.items()
    )
    return (
        f'<h2>Signs</h2><ul class="legend">{items}</ul><p>The rule uses the answers in a box only. ● marks the '
        "wheels on which the rule holds; the categories that it finds are <u>underlined</u>. The pictures are frames "
        "at equal distances over the clip.</p>"
    )


def _section(section: Section, shown: Shown) -> str:
    kind, names = section.kind, _safe_names(shown)
    head = (
        f"<h2>{_text(kind.title)}</h2><p>{kind.meaning.format(**names)}</p>"
        f'<p class="soft small">Rule on a wheel: {kind.holds.format(**names)}</p>'
    )
    if not section.cases:
        return f'{head}<p class="note">None of the {len(shown.comparison.clips)} clips is such a case.</p>'
    cases = section.cases[: shown.count]
    return head + "\n".join(_case(number, case, section, shown) for number, case in enumerate(cases, start=1))


def _case(number: int, case: Case, section: Section, shown: Shown) -> str:
    clip, (baseline, mer_r1) = case.clip, shown.names
    used = {(baseline, "fast"), (mer_r1, "slow")} | ({(baseline, "slow")} if section.kind.compared == "slow" else set())
    pairs = {baseline: clip.baseline, mer_r1: clip.mer_r1}
    answers = "".join(
        _answer(f"{name}, {mode} thinking", getattr(pair, mode), clip.labels, (name, mode) in used, shown.wheels)
        for mode in ("fast", "slow")
        for name, pair in pairs.items()
    )
    subtitle = shown.rows[clip.index]["extra_info"].get("subtitle")
    facts = _facts(
        ("Subtitle", subtitle or "–"), ("True labels", ", ".join(clip.labels)), (section.kind.effect, _found(case))
    )
    return (
        f'<section class="case"><h3>{number}. {_text(clip.name)} <span class="soft">score {case.score:.2f}, F1 '
        f"{case.gain:+.2f}</span></h3>{_picture(shown.pictures[clip.index], clip.name)}{facts}"
        f'<div class="answers">{answers}</div>{_wheels(case, pairs, shown.wheels)}</section>'
    )


def _found(case: Case) -> str:
    """What the rule found: each category with its wheels."""
    places: dict[str, list[str]] = {}
    for wheel, categories in case.found.items():
        for category in sorted(categories):
            places.setdefault(category, []).append(wheel)
    return "; ".join(f"{category} ({' '.join(wheels)})" for category, wheels in places.items())


def _picture(picture: Picture, name: str) -> str:
    if picture.missing:
        return f'<p class="note">No picture: {_text(picture.missing)}</p>'
    total = len(picture.frames)
    images = (
        f'<img src="{url}" alt="{_text(name)}, frame {number} of {total}">'
        for number, url in enumerate(picture.frames, start=1)
    )
    return f'<div class="frames">{"".join(images)}</div>'


def _answer(title: str, answer: Answer, labels: Sequence[str], used: bool, wheels: EmotionWheels) -> str:
    parsed = next((found for form in FORMS if (found := parse(answer.response, form)).well_formed), None)
    parsed = parsed or parse(answer.response)
    # An ill-formed response is shown whole: what stands outside the tags may be the reason.
    thought = parsed.think if parsed.well_formed else answer.response
    note = "" if parsed.well_formed else ' <span class="mixed">≈ ill-formed, shown whole</span>'
    shown = f'<p class="think">{_text(thought)}</p>' if thought else ""
    items = []
    for mark in marks(answer.words, labels, wheels):
        where = f" ({' '.join(mark.wheels)})" if mark.wheels else ""
        items.append(f'<li><span class="{mark.verdict}">{SIGNS[mark.verdict]} {_text(mark.word)}</span>{where}</li>')
    return (
        f'<div class="answer{" used" if used else ""}"><h4>{_text(title)}{note}</h4>{shown}'
        f'<ul class="words">{"".join(items)}</ul></div>'
    )


def _wheels(case: Case, pairs: Mapping[str, Pair], wheels: EmotionWheels) -> str:
    """The categories that the rule compares, a row a wheel."""
    answers = [getattr(pair, mode) for mode in ("fast", "slow") for pair in pairs.values()]
    heads = [f"{_text(name)}, {mode}" for mode in ("fast", "slow") for name in pairs]
    rows = []
    for wheel in wheels.ids:
        true = wheels.categories(case.clip.labels, wheel)
        found = case.found.get(wheel, set())
        cells = (_categories(wheels.categories(answer.words, wheel), true, found) for answer in answers)
        of_labels = ", ".join(_underlined(category, found) for category in sorted(true))
        rows.append([f"{wheel} ●" if found else wheel, of_labels or "– (takes no part)", *cells])
    return f'<div class="small">{table(("wheel", "true", *heads), (), rows)}</div>'


def _categories(said: set[str], true: set[str], found: set[str]) -> str:
    if not true:
        return escape(", ".join(sorted(said)))
    groups = {"correct": said & true, "incorrect": said - true, "missed": true - said}
    return " ".join(
        f'<span class="whole {verdict}">{SIGNS[verdict]} {_underlined(category, found)}</span>'
        for verdict, categories in groups.items()
        for category in sorted(categories)
    )


def _underlined(category: str, found: set[str]) -> str:
    return f"<u>{escape(category)}</u>" if category in found else escape(category)
