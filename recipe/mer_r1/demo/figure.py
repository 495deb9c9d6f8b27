"""The demo's picture: rewards over RL steps, and slow against fast answers before and after RL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display needed
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from recipe.mer_r1.pages.figure_style import STYLE
from recipe.mer_r1.run.steps import running_mean

# Okabe and Ito's colours, which stay apart for most colour-blind readers.
_COLOURS = {
    "reward": "#444444",
    "format": "#cc79a7",
    "recall": "#0072b2",
    "precision": "#d55e00",
    "f1": "#009e73",
    "slow": "#56b4e9",
    "fast": "#e69f00",
}
_NAMES = {"recall": "Recall", "precision": "Precision", "f1": "F1"}
_BAR = 0.21  # width, where groups stand 1 apart


def draw(summary: Mapping[str, Any], path: Path) -> None:
    """Write the picture of a summary to `path`."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(12, 8.4), layout="constrained")
        _reward(axes[0, 0], summary["rl"])
        _components(axes[0, 1], summary["rl"])
        _bars(axes[1, 0], summary["eval_sft_sampled"], summary["eval_sampled"], "Sampled answers (temperature 1)")
        _bars(axes[1, 1], summary["eval_sft"], summary["eval"], "Greedy answers")
        figure.suptitle(
            "MER-Micro (a synthetic corpus), a tiny Qwen2.5-Omni Thinker, GRPO on F1 + format, one seed", fontsize=12
        )
        figure.savefig(path, dpi=150)
        plt.close(figure)


def _curve(axes: Axes, values: Sequence[float], colour: str, label: str) -> None:
    """The steps thin, their running mean thick."""
    numbers = range(1, len(values) + 1)
    axes.plot(numbers, values, color=colour, linewidth=0.8, alpha=0.35)
    axes.plot(numbers, running_mean(values), color=colour, linewidth=2.2, label=label)


def _frame(axes: Axes, title: str, curves: Sequence[Sequence[float]], top: float) -> None:
    """Labels, and limits with room for the legend below the curves; scores go up to `top`."""
    low = min(min(values) for values in curves)
    span = max(0.2, top - low)
    axes.set(title=title, xlabel="RL step", xlim=(1, max(2, len(curves[0]))), ylim=(low - 0.3 * span, top + 0.03))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower right", ncols=3, columnspacing=1.0, handlelength=1.4)


def _reward(axes: Axes, rl: Mapping[str, Sequence[float]]) -> None:
    reward = [f1 + form for f1, form in zip(rl["f1"], rl["format"], strict=True)]
    _curve(axes, reward, _COLOURS["reward"], "F1 + format")
    _curve(axes, rl["format"], _COLOURS["format"], "format")
    _frame(axes, "Reward of sampled answers", [reward, rl["format"]], top=2.0)


def _components(axes: Axes, rl: Mapping[str, Sequence[float]]) -> None:
    for score, name in _NAMES.items():
        _curve(axes, rl[score], _COLOURS[score], name)
    _frame(axes, "Recall, precision and F1 of sampled answers", [rl[score] for score in _NAMES], top=1.0)


def _bars(axes: Axes, before: Mapping[str, Any], after: Mapping[str, Any], title: str) -> None:
    """Groups recall, precision, F1; in each slow and fast, before (pale) and after RL."""
    bars = [
        (mode, model, scores[mode]) for mode in ("slow", "fast") for model, scores in (("SFT", before), ("RL", after))
    ]
    for place, (mode, model, means) in enumerate(bars):
        shift = (place - 1.5) * _BAR + (-0.02 if mode == "slow" else 0.02)
        heights = [means[score] or 0.0 for score in _NAMES]
        positions = [group + shift for group in range(len(_NAMES))]
        alpha = 0.4 if model == "SFT" else 1.0
        drawn = axes.bar(positions, heights, _BAR, color=_COLOURS[mode], alpha=alpha, label=f"{mode}, {model}")
        axes.bar_label(drawn, fmt="%.2f", fontsize=8, label_type="center", color="#111111")
        f1 = [*_NAMES].index("f1")
        axes.errorbar(positions[f1], heights[f1], means["f1_stderr"], color="#333333", linewidth=1, capsize=2)
    clips = bars[0][2]["n"]
    axes.set(title=f"{title} to {clips} test clips (F1 ± standard error)", ylim=(0, 1.12))
    axes.set_xticks(range(len(_NAMES)), _NAMES.values())
    axes.grid(axis="x", visible=False)
    axes.legend(loc="upper center", ncols=4, fontsize=9, columnspacing=1.0, handlelength=1.2)
