"""A picture of what fast thinking changes: slow and fast recall and precision, a line between the two a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipe.mer_r1.eval.corpora import TITLES
from recipe.mer_r1.eval.layout import Entry
from recipe.mer_r1.eval.results import Metric

# Okabe and Ito's colours, which stay apart for most colour-blind readers; the shapes tell them apart in grey.
_MODES = {"slow": ("#0072b2", "o"), "fast": ("#e69f00", "D")}
_PANELS = {"R": "Recall", "P": "Precision"}
_ROW_INCHES = 0.62


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
        figure.legend(*handles, loc="outside upper right", ncols=2)
        for path in paths:
            figure.savefig(path, dpi=200)
        plt.close(figure)


def _panel(axis: Any, entries: Sequence[Entry], key: str, title: str) -> None:
    for number, entry in enumerate(entries):
        points = {mode: entry.folder.mode(mode).metrics[key] for mode in _MODES}
        slow, fast = (100 * (points[mode].value or 0.0) for mode in _MODES)
        axis.plot([slow, fast], [number, number], color="#999999", linewidth=3, solid_capstyle="round", zorder=1)
        for offset, (mode, metric) in zip((-0.16, 0.16), points.items(), strict=True):
            colour, marker = _MODES[mode]
            _interval(axis, metric, number + offset, colour)
            label = f"{mode} thinking" if number == 0 else None
            value = 100 * (metric.value or 0.0)
            axis.scatter(value, number, s=110, color=colour, marker=marker, edgecolor="white", zorder=3, label=label)
        gap = entry.folder.gaps[key].value or 0.0
        axis.annotate(
            f"{100 * gap:+.1f}",
            (1.0, number),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color="#444444",
        )
    axis.set_title(title, loc="left", fontweight="bold")
    axis.annotate(
        "fast − slow",
        (1.0, 1.0),
        xycoords="axes fraction",
        xytext=(6, 6),
        textcoords="offset points",
        fontsize=10,
        color="#444444",
    )
    axis.set_xlabel("percent, mean over the wheels")
    axis.grid(axis="x", alpha=0.3)
    axis.tick_params(axis="y", length=0)
    axis.margins(x=0.08)


def _interval(axis: Any, metric: Metric, height: float, colour: str) -> None:
    """A thin line beside the point: two intervals on one height would hide each other."""
    if metric.low is not None and metric.high is not None:
        axis.plot([100 * metric.low, 100 * metric.high], [height, height], color=colour, linewidth=1.4, alpha=0.8)


def _label(entry: Entry, entries: Sequence[Entry]) -> str:
    """The corpus, and the model where there are several."""
    corpus = TITLES.get(entry.corpus, entry.corpus)
    return f"{entry.row}\n{corpus}" if len({other.row for other in entries}) > 1 else corpus
