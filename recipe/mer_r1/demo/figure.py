"""The demo's picture: F1 during RL, and EW F of slow and fast answers to the test clips, for both experiments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display needed
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from recipe.mer_r1.demo.summary import NAMES
from recipe.mer_r1.pages.figure_style import STYLE
from recipe.mer_r1.run.steps import WINDOW, trend

# Okabe and Ito's colours, which stay apart for most colour-blind readers.
_ROWS = {"baseline": "#444444", "mer_r1": "#009e73"}
_FORMS = {"slow": "#0072b2", "fast": "#d55e00"}


def draw(summary: Mapping[str, Any], path: Path) -> None:
    """Write the picture of a summary to `path`."""
    with plt.rc_context({**STYLE, "font.size": 14, "axes.titlesize": 15}):
        figure, axes = plt.subplots(1, 3, figsize=(15, 5), layout="constrained")
        _curves(axes[0], summary["runs"])
        _answers(axes[1], summary["models"], "_sampled", "Test clips: sampled answers")
        _answers(axes[2], summary["models"], "", "Test clips: greedy answers")
        low = min(axis.get_ylim()[0] for axis in axes[1:])
        for axis in axes[1:]:
            axis.set_ylim(low, 1.0)
        figure.savefig(path, dpi=110)
        plt.close(figure)


def _curves(axes: Axes, runs: Mapping[str, Any]) -> None:
    """The steps thin, their running mean thick."""
    for row, run in runs.items():
        numbers = range(1, len(run["f1"]) + 1)
        axes.plot(numbers, run["f1"], color=_ROWS[row], linewidth=1, alpha=0.35)
        dot = "o" if len(run["f1"]) < WINDOW else ""
        axes.plot(numbers, trend(run["f1"]), color=_ROWS[row], linewidth=3, marker=dot, label=NAMES[row])
    axes.set(title="RL: sampled slow answers", xlabel="step", ylabel="F1, mean over responses")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_below(axes)


def _answers(axes: Axes, models: Mapping[str, Any], ending: str, title: str) -> None:
    """EW F with its 95 % interval over clips, in 0..1; slow and fast of a model beside each other."""
    for form, shift in (("slow", -0.12), ("fast", 0.12)):
        means = [models[model][f"{form}{ending}"] for model in models]
        heights = [mean["ew_f"] or 0.0 for mean in means]
        ends = [mean["ew_f_ci95"] or (height, height) for mean, height in zip(means, heights, strict=True)]
        errors = [
            [max(0.0, sign * (end[place] - height)) for end, height in zip(ends, heights, strict=True)]
            for place, sign in ((0, -1), (1, 1))
        ]
        places = [place + shift for place in range(len(means))]
        marker = {"slow": "o", "fast": "s"}[form]
        axes.errorbar(
            places, heights, errors, fmt=marker, color=_FORMS[form], markersize=11, linewidth=3, capsize=6, label=form
        )
        for place, height in zip(places, heights, strict=True):
            side, align = (-0.07, "right") if form == "slow" else (0.07, "left")
            axes.text(place + side, height, f"{height:.2f}".removeprefix("0"), ha=align, va="center", fontsize=12)
    axes.set(title=title, ylabel="EW F", xlim=(-0.6, len(models) - 0.4))
    axes.set_xticks(range(len(models)), [NAMES[model] for model in models])
    axes.grid(axis="x", visible=False)
    _legend_below(axes)


def _legend_below(axes: Axes) -> None:
    """Beside what is drawn, not on it."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
