"""A picture of what fast thinking changes: slow and fast recall and precision, a line between the two a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipe.mer_r1.eval.corpora import TITLES
from recipe.mer_r1.eval.results import Metric
from recipe.mer_r1.eval.tables.entry import Entry

# Okabe and Ito's colours, which stay apart for most colour-blind readers; the shapes tell them apart in grey.
_MODES = {"slow": ("#0072b2", "o"), "fast": ("#e69f00", "D")}
_PANELS = {"R": "Recall", "P": "Precision"}
_CAPTION = (
    "Percent, mean over the wheels. Thin lines and brackets: 95 % bootstrap intervals over clips; bold: without zero."
)
_ROW_INCHES = 0.68


def drawable(entries: Sequence[Entry]) -> list[Entry]:
    """The entries that have slow and fast recall and precision."""
    return [entry for entry in entries if entry.folder.gaps and all(map(entry.folder.mode, _MODES))]


def draw(entries: Sequence[Entry], paths: Sequence[Path]) -> None:
    """Write the picture to every path (.png, .svg)."""
    from matplotlib import pyplot as plt

    from recipe.mer_r1.demo.figure import STYLE

    style = STYLE | {"font.size": 12, "axes.grid": False, "svg.fonttype": "none", "svg.hashsalt": "mer-r1"}
    with plt.rc_context(style):
        height = 2.1 + _ROW_INCHES * len(entries)
        figure, axes = plt.subplots(1, 2, figsize=(12, height), sharey=True, layout="constrained")
        for axis, (key, title) in zip(axes, _PANELS.items(), strict=True):
            _panel(axis, entries, key, title)
        axes[0].set_yticks(range(len(entries)), [_label(entry, entries) for entry in entries])
        axes[0].set_ylim(len(entries) - 0.45, -0.55)
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper right", ncols=2, columnspacing=1.2, handletextpad=0.2)
        figure.suptitle(_title(entries), x=0.01, ha="left", fontsize=15)
        figure.supxlabel(_CAPTION, fontsize=10, color="#555555")
        for path in paths:
            figure.savefig(path, dpi=200)
        plt.close(figure)


def _panel(axis: Any, entries: Sequence[Entry], key: str, title: str) -> None:
    for number, entry in enumerate(entries):
        points = {mode: entry.folder.mode(mode).metrics[key] for mode in _MODES}
        slow, fast = (100 * (points[mode].value or 0.0) for mode in _MODES)
        axis.plot([slow, fast], [number, number], color="#999999", linewidth=3, solid_capstyle="round", zorder=1)
        for offset, (mode, metric) in zip((-0.2, 0.2), points.items(), strict=True):
            colour, marker = _MODES[mode]
            _interval(axis, metric, number + offset, colour)
            label = f"{mode} thinking" if number == 0 else None
            value = 100 * (metric.value or 0.0)
            axis.scatter(value, number, s=110, color=colour, marker=marker, edgecolor="white", zorder=3, label=label)
        _gap(axis, entry.folder.gaps[key], number)
    axis.set_title(title, loc="left", fontweight="bold")
    _beside(axis, "fast − slow", 1.0, va="bottom", fontsize=10, y_in_axes=True)
    axis.grid(axis="x", alpha=0.3)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.margins(x=0.08)


def _interval(axis: Any, metric: Metric, height: float, colour: str) -> None:
    """A thin line beside the point: two intervals on one height would hide each other."""
    if metric.low is not None and metric.high is not None:
        axis.plot([100 * metric.low, 100 * metric.high], [height, height], color=colour, linewidth=1.2, alpha=0.6)


def _gap(axis: Any, gap: Metric, height: float) -> None:
    """The difference with its interval, bold where that leaves out zero: the two points' own intervals cannot tell,
    since the same clips are hard for both.
    """
    text = _signed(gap.value or 0.0)
    sure = False
    if gap.low is not None and gap.high is not None:
        text += f"\n[{_signed(gap.low)}, {_signed(gap.high)}]"
        sure = gap.low > 0 or gap.high < 0
    weight = "bold" if sure else "normal"
    _beside(axis, text, height, va="center", fontsize=10, fontweight=weight)


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _beside(axis: Any, text: str, height: float, *, y_in_axes: bool = False, **style: Any) -> None:
    """Text right of the axes, at a height in rows or, above them, in shares of the axes."""
    where = "axes fraction" if y_in_axes else ("axes fraction", "data")
    shift = (8, 6 if y_in_axes else 0)
    place = {"xycoords": where, "xytext": shift, "textcoords": "offset points"}
    axis.annotate(text, (1.0, height), color="#333333", **place, **style)


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
