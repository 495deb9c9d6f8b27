"""The picture of a comparison: the paired difference and its interval about 0, corpus by corpus, mode by mode."""

from __future__ import annotations

from collections.abc import Sequence

from recipe.mer_r1.eval.compare.differences import Comparison, Corpus
from recipe.mer_r1.eval.compare.wording import METRICS, corpora_of, names
from recipe.mer_r1.eval.corpora import TITLES
from recipe.mer_r1.eval.figures.panels import STYLES, Panel, Picture, Series
from recipe.mer_r1.eval.results import Metric

_CAPTION = (
    "Lines: 95 % bootstrap intervals of the paired difference over clips.\n"
    "A line that crosses 0 tells of no difference. No interval covers training with another seed."
)


def figure(comparisons: Sequence[Comparison], first: str, second: str) -> Picture | None:
    """A row for each corpus and for their mean, a kind of point for each pair of modes; None where none is defined."""
    there = [one for one in comparisons if any(corpus.decides for corpus in one.corpora)]
    if not there:
        return None
    rows = {corpus.corpus: _label(corpus) for one in there for corpus in _all(one) if corpus.decides}
    series = [
        Series(_label_of(one, first, second), style, [_point(one, key) for key in rows])
        for one, style in zip(there, STYLES, strict=False)
    ]
    here, other = names(first, second, there[0].modes)
    panel = Panel(f"{here} − {other}", "points", series, zero=True, decimals=2)
    return Picture(f"{here} against {other} on {corpora_of(there[0])}", list(rows.values()), [panel], _CAPTION)


def _label_of(one: Comparison, first: str, second: str) -> str:
    if one.modes[0] == one.modes[1]:
        return one.modes[0].replace("_", ", ")
    return " − ".join(names(first, second, one.modes))


def _label(corpus: Corpus) -> str:
    title = TITLES.get(corpus.corpus, corpus.corpus)
    return (
        "mean over\ncorpora"
        if corpus.corpus == "pooled"
        else f"{title}, {METRICS[corpus.metric]}\n{corpus.clips} clips"
    )


def _all(one: Comparison) -> list[Corpus]:
    return [*one.corpora, *([one.pooled] if one.pooled else [])]


def _point(one: Comparison, key: str) -> Metric | None:
    found = next((corpus.decides for corpus in _all(one) if corpus.corpus == key), None)
    if found is None:
        return None
    numbers = {"value": found.difference, "low": found.low, "high": found.high}
    return Metric(**{name: None if value is None else 100 * value for name, value in numbers.items()})
