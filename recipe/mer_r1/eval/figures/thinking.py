"""Figure 3: what fast thinking changes in one model's answers, corpus by corpus."""

from __future__ import annotations

from collections.abc import Sequence

from recipe.mer_r1.eval.corpora import TITLES
from recipe.mer_r1.eval.figures.panels import CAPTION, FAST, SLOW, STYLES, Panel, Picture, Series, percent
from recipe.mer_r1.eval.results import Metric
from recipe.mer_r1.eval.tables.entry import Entry

_SCORES = {"R": "recall", "P": "precision", "F": "F1"}
_PAIRED = {
    "categories": ("(b) Emotion categories per answer", "mean over clips and wheels", 2),
    "truth": ("(c) Confidence on the truth", "log-probability, nats", 2),
    "margin": ("(d) Confidence margin", "true − hard-negative categories, nats", 2),
}


def figure(entries: Sequence[Entry]) -> Picture | None:
    """The figure of one model's folders; (c) and (d) where any confidences are there. None without pairs of modes.

    (a) is fast less slow, each of (b) to (d) both and their difference. The confidence of a mode is that of its own
    answer, where the answer's first word begins; both differences are over the clips for which both are defined.
    """
    entries = [entry for entry in entries if entry.folder.gaps]
    if not entries:
        return None
    gaps = [entry.folder.gaps for entry in entries]
    scores = [
        Series(name, style, [percent(gap[key]) for gap in gaps])
        for (key, name), style in zip(_SCORES.items(), STYLES[1:], strict=False)
    ]
    panels = [Panel("(a) Scores, fast − slow", "points", scores, zero=True)]
    for key, (title, unit, decimals) in _PAIRED.items():
        if any(key in gap for gap in gaps):
            panels.append(_paired(entries, key, title, unit, decimals))
    rows = [f"{TITLES.get(entry.corpus, entry.corpus)}\n{entry.folder.results[0].n} clips" for entry in entries]
    return Picture(f"Slow and fast thinking of {entries[0].row}", rows, panels, CAPTION)


def _paired(entries: Sequence[Entry], key: str, title: str, unit: str, decimals: int) -> Panel:
    series = [
        Series(f"{mode} thinking", style, [entry.folder.mode(mode).metrics.get(key) for entry in entries])
        for mode, style in (("slow", SLOW), ("fast", FAST))
    ]
    gaps = [entry.folder.gaps.get(key, Metric(value=None)) for entry in entries]
    return Panel(title, unit, series, gaps, decimals=decimals)
