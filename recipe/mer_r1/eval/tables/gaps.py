"""Fast less slow thinking, corpus by corpus (the paper's Figure 3 a and b), in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from recipe.mer_r1.eval.corpora import TITLES
from recipe.mer_r1.eval.results import FolderResults
from recipe.mer_r1.eval.tables.entry import Entry
from recipe.mer_r1.eval.tables.layout import number


def markdown(entries: Sequence[Entry]) -> str:
    """Differences in points and the mean number of categories, of the entries that have gaps."""
    text = ["### Fast less slow thinking", ""]
    text += ["| model | corpus | ΔR | ΔP | ΔF1 | categories slow | categories fast |", "|---|---|--:|--:|--:|--:|--:|"]
    for entry in entries:
        gaps = [_gap(entry.folder, key) for key in ("R", "P", "F")]
        counts = [number(entry.folder.mode(mode).metrics["categories"].value) for mode in ("slow", "fast")]
        text.append(f"| {entry.row} | {TITLES.get(entry.corpus, entry.corpus)} | {' | '.join([*gaps, *counts])} |")
    return "\n".join(
        [*text, "", "Points (percent), 95 % bootstrap intervals over clips in brackets; slow and fast paired."]
    )


def _gap(folder: FolderResults, key: str) -> str:
    gap = folder.gaps.get(key)
    if gap is None or gap.value is None:
        return "–"
    interval = "" if gap.low is None or gap.high is None else f" [{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]"
    return f"{100 * gap.value:+.2f}{interval}"
