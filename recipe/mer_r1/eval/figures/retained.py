"""Figure 8: the share of fast thinking's hits that slow thinking keeps, model by model and corpus by corpus."""

from __future__ import annotations

from collections.abc import Sequence

from recipe.mer_r1.eval.corpora import TITLES
from recipe.mer_r1.eval.figures.panels import STYLES, Panel, Picture, Series, percent
from recipe.mer_r1.eval.tables.entry import Entry

_CAPTION = (
    "True categories that the fast answer names and the slow answer still does; mean over the wheels.\n"
    "Thin lines: 95 % bootstrap intervals over clips."
)


def figure(entries: Sequence[Entry]) -> Picture | None:
    """Retained hit rates in percent; None where no folder has slow and fast answers.

    Raises:
        ValueError: more models than a picture can tell apart.
    """
    found = {
        (entry.row, entry.corpus): percent(entry.folder.retained_hit) for entry in entries if entry.folder.retained_hit
    }
    if not found:
        return None
    models, corpora = (list(dict.fromkeys(key[place] for key in found)) for place in (0, 1))
    if len(models) > len(STYLES):
        raise ValueError(f"{len(models)} models are too many for one figure; give at most {len(STYLES)}")
    series = [
        Series(model, style, [found.get((model, corpus)) for corpus in corpora])
        for model, style in zip(models, STYLES, strict=False)
    ]
    rows = [TITLES.get(corpus, corpus) for corpus in corpora]
    return Picture(
        "Hits of fast thinking that slow thinking retains",
        rows,
        [Panel("Retained hit rate", "percent", series)],
        _CAPTION,
    )
