"""Figure 5: the slow answers of several models side by side, corpus by corpus."""

from __future__ import annotations

from collections.abc import Sequence

from recipe.mer_r1.eval.corpora import TITLES
from recipe.mer_r1.eval.figures.panels import STYLES, Panel, Picture, Series, percent
from recipe.mer_r1.eval.results import Metric
from recipe.mer_r1.eval.tables.entry import Entry

_PANELS = {
    "R": ("(a) Recall", "percent", 1),
    "P": ("(b) Precision", "percent", 1),
    "truth": ("(c) Confidence on the truth", "log-probability, nats", 2),
    "margin": ("(d) Confidence margin", "true − hard-negative categories, nats", 2),
}
_CAPTION = (
    "Slow thinking. Thin lines: 95 % bootstrap intervals over clips; models can differ although intervals overlap."
)


def figure(entries: Sequence[Entry]) -> Picture | None:
    """Recall, precision and, where any were read, confidences of slow answers; None for fewer than two models.

    Args:
        entries: a row's name is a model's.

    Raises:
        ValueError: more models than a picture can tell apart.
    """
    entries = [entry for entry in entries if (slow := entry.folder.mode("slow")) and "R" in slow.metrics]
    models = list(dict.fromkeys(entry.row for entry in entries))
    if len(models) < 2:
        return None
    if len(models) > len(STYLES):
        raise ValueError(f"{len(models)} models are too many for one figure; give at most {len(STYLES)}")
    corpora = list(dict.fromkeys(entry.corpus for entry in entries))
    panels = []
    for key, (title, unit, decimals) in _PANELS.items():
        found = {(entry.row, entry.corpus): _point(entry, key) for entry in entries}
        if any(found.values()):
            series = [
                Series(model, style, [found.get((model, corpus)) for corpus in corpora])
                for model, style in zip(models, STYLES, strict=False)
            ]
            panels.append(Panel(title, unit, series, decimals=decimals))
    rows = [TITLES.get(corpus, corpus) for corpus in corpora]
    return Picture(f"Slow thinking of {' and '.join(models)}", rows, panels, _CAPTION)


def _point(entry: Entry, key: str) -> Metric | None:
    metric = entry.folder.mode("slow").metrics.get(key)
    return percent(metric) if key in ("R", "P") else metric
