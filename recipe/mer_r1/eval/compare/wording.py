"""A comparison in words: the verdict, and the numbers behind it as a table."""

from __future__ import annotations

from collections.abc import Sequence

from recipe.mer_r1.eval.compare.differences import OFFICIAL, Comparison, Corpus, Difference
from recipe.mer_r1.eval.corpora import TITLES
from recipe.mer_r1.pages.tables import percent

METRICS = {
    "F": "EW F",
    "R": "EW R",
    "P": "EW P",
    "hit": "HIT",
    "waf": "WAF",
    "cot": "CoT",
    OFFICIAL: "the mean over corpora of their own metric",
}
_ROWS = {**METRICS, OFFICIAL: "own metric"}
_SAID = {1: "{first} is ahead of {second}", -1: "{first} is behind {second}", 0: "{first} cannot be told from {second}"}


def names(first: str, second: str, modes: tuple[str, str]) -> tuple[str, str]:
    """What the two sides are called: with the modes where these differ."""
    if modes[0] == modes[1]:
        return first, second
    if first == second:
        return _plain(modes[0]), _plain(modes[1])
    return f"{first} ({_plain(modes[0])})", f"{second} ({_plain(modes[1])})"


def verdict(comparison: Comparison, first: str, second: str) -> str:
    """One line. It claims a difference only where the 95 % interval over clips excludes 0.

    Args:
        first, second: how the sides are called.
    """
    whole, (one, other) = comparison.whole, names(first, second, comparison.modes)
    of = "" if comparison.modes[0] != comparison.modes[1] else f"{_plain(comparison.modes[0])} answers to "
    if first == second and of == "":
        of = f"answers of {first} to "
    where = f"{of}{whole.clips} clips of {corpora_of(comparison)}"
    found = whole.decides
    if found is None:
        return f"{one} and {other} cannot be compared on {where}: {_why_not(comparison)}."
    said = _SAID[found.side].format(first=one, second=other)
    return f"{said} in {METRICS[whole.metric]}: {points(found)}; {where}."


def corpora_of(comparison: Comparison) -> str:
    """The corpora that have scores, or all where none has."""
    named = [corpus for corpus in comparison.corpora if corpus.scores] or comparison.corpora
    return ", ".join(TITLES.get(corpus.corpus, corpus.corpus) for corpus in named)


def _why_not(comparison: Comparison) -> str:
    notes = [corpus.note for corpus in comparison.corpora if corpus.note]
    return "; ".join(dict.fromkeys(notes)) or "the score is undefined"


def points(found: Difference) -> str:
    """`+2.10 points (95 % interval +0.50 to +3.70)`."""
    interval = (
        "" if found.low is None or found.high is None else f" (95 % interval {_of(found.low)} to {_of(found.high)})"
    )
    return f"{_of(found.difference)} points{interval}"


def table(comparison: Comparison, first: str, second: str) -> list[list[str]]:
    """Rows of cells, in percent, the header first; the metric that decides is the first of its corpus."""
    one, other = names(first, second, comparison.modes)
    rows = [["corpus", "clips", "score", one, other, f"{one} − {other}", "95 % interval"]]
    for corpus in [*comparison.corpora, *([comparison.pooled] if comparison.pooled else [])]:
        title = "mean over corpora" if corpus is comparison.pooled else TITLES.get(corpus.corpus, corpus.corpus)
        if not corpus.scores:
            rows.append([title, str(corpus.clips), "–", "–", "–", "–", corpus.note])
        for key in _ordered(corpus):
            found = corpus.scores[key]
            interval = "–" if found.low is None or found.high is None else f"{_of(found.low)} to {_of(found.high)}"
            cells = [percent(found.first), percent(found.second), _of(found.difference), interval]
            rows.append([title, str(corpus.clips), _ROWS.get(key, key), *cells])
            title = ""
    return rows


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """The rows in columns."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    texts = []
    for row in rows:
        cells = [
            cell.ljust(width) if place in (0, 2, 6) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        texts.append("  ".join(cells).rstrip())
    return "\n".join(texts)


def _ordered(corpus: Corpus) -> list[str]:
    return [key for key in dict.fromkeys((corpus.metric, "F", "R", "P")) if key in corpus.scores]


def _plain(mode: str) -> str:
    form, _, sampled = mode.partition("_")
    return f"{sampled} {form}".strip()


def _of(value: float | None) -> str:
    """Points with their sign."""
    return "–" if value is None else f"{100 * value:+.2f}".replace("-", "−")
