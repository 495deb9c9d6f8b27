"""A picture of what fast thinking changes: slow and fast recall and precision, a line between the two a corpus."""

from __future__ import annotations

from collections.abc import Sequence

from recipe.mer_r1.eval.corpora import TITLES
from recipe.mer_r1.eval.figures.panels import FAST, SLOW, Panel, Picture, Series, percent
from recipe.mer_r1.eval.tables.entry import Entry

_MODES = {"slow": SLOW, "fast": FAST}
_PANELS = {"R": "Recall", "P": "Precision"}


def drawable(entries: Sequence[Entry]) -> list[Entry]:
    """The entries that have slow and fast recall and precision."""
    return [entry for entry in entries if entry.folder.gaps and all(map(entry.folder.mode, _MODES))]


def figure(entries: Sequence[Entry]) -> Picture | None:
    """The picture of all folders that are `drawable`, None without any."""
    entries = drawable(entries)
    if not entries:
        return None
    panels = [
        Panel(title, "percent, mean over the wheels", _series(entries, key), _gaps(entries, key))
        for key, title in _PANELS.items()
    ]
    return Picture(_title(entries), [_label(entry, entries) for entry in entries], panels)


def _series(entries: Sequence[Entry], key: str) -> list[Series]:
    return [
        Series(f"{mode} thinking", style, [percent(entry.folder.mode(mode).metrics[key]) for entry in entries])
        for mode, style in _MODES.items()
    ]


def _gaps(entries: Sequence[Entry], key: str) -> list:
    return [percent(entry.folder.gaps[key]) for entry in entries]


def _title(entries: Sequence[Entry]) -> str:
    """Names the corpus or the model where all rows share it."""
    corpora, rows = {entry.corpus for entry in entries}, {entry.row for entry in entries}
    text = "Slow and fast thinking"
    if len(rows) == 1:
        text += f" of {entries[0].row}"
    if len(corpora) == 1:
        text += f" on {TITLES.get(entries[0].corpus, entries[0].corpus)}, {entries[0].folder.results[0].n} clips"
    return text


def _label(entry: Entry, entries: Sequence[Entry]) -> str:
    """What the title does not say: model, corpus, or both."""
    corpus = TITLES.get(entry.corpus, entry.corpus)
    if len({other.corpus for other in entries}) == 1:
        return entry.row
    return corpus if len({other.row for other in entries}) == 1 else f"{corpus}\n{entry.row}"
