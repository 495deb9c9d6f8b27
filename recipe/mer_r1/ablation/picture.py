"""The figures of the ablation: F1 of sampled answers with the difference to the baseline; curves of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display needed
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from recipe.mer_r1.ablation.record import WELL_FORMED
from recipe.mer_r1.ablation.results import Results, Values, is_start
from recipe.mer_r1.method.bootstrap import Interval
from recipe.mer_r1.pages.figure_style import STYLE
from recipe.mer_r1.run.steps import trend

# Okabe and Ito's colours, which stay apart for most colour-blind readers.
# Of each series: colour, shape, shift from the row's line, fill, label.
_SLOW = ("#0072b2", "o", 0.22, True, "slow thinking")
_FORMED = ("#009e73", "D", 0.0, True, "slow thinking, well-formed answers alone")
_FAST = ("#e69f00", "s", -0.22, False, "fast thinking")
_CURVES = {
    "reward/f1": "F1 of sampled slow answers",
    "reward/recall": "Recall",
    "reward/precision": "Precision",
    "reward/format": "Format",
    "reward/thought_tokens": "Tokens of a thought",
    "actor/kl_loss": "KL to the SFT model",
}
_BASELINE = "baseline"
# Large type: the figure must be legible as a thumbnail.
_TYPE = {"font.size": 17, "axes.titlesize": 19, "axes.labelsize": 16, "legend.fontsize": 17}


def main_rows(results: Results) -> list[str]:
    """Those that were run on several seeds; all of them where there is none."""
    return [row for row in results.rows if len(results.records(row)) > 1] or results.rows


def draw(results: Results, rows: Sequence[str], path: Path) -> None:
    """Write the figure of some rows; from top to bottom as in the tables."""
    with plt.rc_context(STYLE | _TYPE):
        height = 2.9 + 0.72 * max(3, len(rows))
        figure, (left, right) = plt.subplots(1, 2, figsize=(14, height), layout="constrained", sharey=True)
        places = {row: len(rows) - index for index, row in enumerate(rows)}
        others = [row for row in rows if row != _BASELINE]
        for series, mode, score in (
            (_SLOW, "slow_sampled", "f1"),
            (_FORMED, "slow_sampled", WELL_FORMED),
            (_FAST, "fast_sampled", "f1"),
        ):
            _points(left, places, {row: results.mean(row, mode, score) for row in rows}, series)
            differences = {row: results.difference(row, _BASELINE, mode, score) for row in others}
            _points(right, places, differences, series)
        labels = [f"{_name(row)}  ({len(results.records(row))})" for row in rows]
        left.set_yticks([places[row] for row in rows], labels)
        left.set_ylim(0.3, len(rows) + 0.7)
        left.set(title="F1 of sampled answers", xlabel="F1 on test clips")
        right.set(title=f"Difference to the {_BASELINE}", xlabel="paired difference of F1")
        right.axvline(0, color="#444444", linewidth=1.5)
        for axes in (left, right):
            axes.grid(axis="y", visible=False)
            axes.tick_params(axis="y", length=0)
            axes.xaxis.set_major_locator(MaxNLocator(4))
        handles, names = left.get_legend_handles_labels()
        if handles:
            figure.legend(handles, names, loc="outside upper center", ncols=3)
        figure.supxlabel(
            "95 % intervals over seeds and test clips, wider where seeds were added (number of seeds in brackets; "
            "pale: 1 seed, clips alone). MER-Micro, a tiny Thinker.",
            fontsize=12,
        )
        figure.savefig(path, dpi=110)
        plt.close(figure)


def _points(
    axes: Axes,
    places: dict[str, int],
    found: dict[str, Interval | None],
    series: tuple[str, str, float, bool, str],
) -> None:
    """A point with its interval for each row."""
    colour, shape, shift, filled, label = series
    for row, one in found.items():
        if one is None:
            continue
        errors = [[max(0.0, one.value - one.low)], [max(0.0, one.high - one.value)]]
        axes.errorbar(
            one.value,
            places[row] + shift,
            xerr=errors,
            fmt=shape,
            markersize=9,
            markerfacecolor=colour if filled else "white",
            color=colour,
            linewidth=3,
            markeredgewidth=2.5,
            capsize=0,
            alpha=1.0 if one.seeds > 1 else 0.45,
            label=label,
        )
        label = ""


def draw_curves(results: Results, path: Path) -> None:
    """Running means of what is sampled in training, a line for each row of the table: the mean over its seeds."""
    rows = [row for row in results.rows if any(True for _ in results.curves(row, "reward/f1"))]
    colours = dict(zip(rows, plt.get_cmap("tab20").colors * (1 + len(rows) // 20), strict=False))
    with plt.rc_context(STYLE | {"font.size": 12}):
        figure, panels = plt.subplots(2, 3, figsize=(14, 8), layout="constrained")
        for axes, (name, title) in zip(panels.flat, _CURVES.items(), strict=True):
            for row in rows:
                curves = list(results.curves(row, name))
                if curves:
                    _curve(axes, curves, colours[row], row)
            axes.set(title=title, xlabel="RL step")
        figure.legend(*panels.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
        figure.savefig(path, dpi=90)
        plt.close(figure)


def _curve(axes: Axes, curves: Sequence[Values], colour: tuple[float, ...], label: str) -> None:
    """The mean over the seeds at each step where all of them have a value, as a running mean."""
    of_steps = enumerate(zip(*curves, strict=False), start=1)
    points = [(step, sum(values) / len(values)) for step, values in of_steps if None not in values]
    if points:
        steps, means = zip(*points, strict=True)
        axes.plot(steps, trend(means), color=colour, linewidth=2, label=label)


def _name(row: str) -> str:
    return row.replace("_", " ").upper() if is_start(row) else row
