"""The demo's picture: rewards over RL steps, and slow against fast answers before and after RL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display needed
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

_COLOURS = {"reward": "#444444", "recall": "#0072b2", "precision": "#d55e00", "f1": "#009e73"}
_NAMES = {"recall": "Recall", "precision": "Precision", "f1": "F1"}
_WINDOW = 9
_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


def draw(summary: Mapping[str, Any], path: Path) -> None:
    """Write the picture of a summary to `path`."""
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(13.5, 4.2), width_ratios=[1.0, 1.0, 1.15], layout="constrained")
        _rewards(axes[0], summary["rl"])
        _components(axes[1], summary["rl"])
        _bars(axes[2], summary["eval_sft"], summary["eval"])
        figure.suptitle("MER-Micro (made corpus), tiny Qwen2.5-Omni Thinker: GRPO on F1 + format", fontsize=12)
        figure.savefig(path, dpi=150)
        plt.close(figure)


def running_mean(values: Sequence[float], window: int = _WINDOW) -> list[float]:
    """Centred mean; at the ends over what there is on both sides alike, so that no trend is bent."""
    means = []
    for index in range(len(values)):
        half = min(window // 2, index, len(values) - 1 - index)
        part = values[index - half : index + half + 1]
        means.append(sum(part) / len(part))
    return means


def _curve(axes: Axes, values: Sequence[float], colour: str, label: str) -> None:
    numbers = range(1, len(values) + 1)
    axes.plot(numbers, values, color=colour, linewidth=0.8, alpha=0.35)
    axes.plot(numbers, running_mean(values), color=colour, linewidth=2.2, label=label)


def _rewards(axes: Axes, rl: Mapping[str, Sequence[float]]) -> None:
    reward = [f1 + form for f1, form in zip(rl["f1"], rl["format"], strict=True)]
    _curve(axes, reward, _COLOURS["reward"], "reward = F1 + format")
    _curve(axes, rl["format"], "#cc79a7", "format")
    axes.set(title="Reward of sampled answers", xlabel="RL step", xlim=(1, max(2, len(reward))))
    axes.set_ylim(min(0.8, *reward, *rl["format"]) - 0.05, 2.0)
    axes.legend(loc="upper left")


def _components(axes: Axes, rl: Mapping[str, Sequence[float]]) -> None:
    for score, name in _NAMES.items():
        _curve(axes, rl[score], _COLOURS[score], name)
    axes.set(title="Recall, precision, F1 of sampled answers", xlabel="RL step", xlim=(1, max(2, len(rl["f1"]))))
    low = min(min(rl[score]) for score in _NAMES)
    axes.set_ylim(max(0.0, low - 0.05), 1.0)
    axes.legend(loc="lower right", ncols=3)


def _bars(axes: Axes, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Groups recall, precision, F1; in each slow and fast, before (pale) and after RL."""
    bars = [(mode, pale, means[mode]) for mode in ("slow", "fast") for pale, means in ((True, before), (False, after))]
    width = 0.2
    colours = {"slow": "#0072b2", "fast": "#e69f00"}
    for place, (mode, pale, means) in enumerate(bars):
        offset = (place - 1.5) * width + (-0.02 if place < 2 else 0.02)
        heights = [means[score] or 0.0 for score in _NAMES]
        positions = [group + offset for group in range(len(_NAMES))]
        label = f"{mode}, {'SFT' if pale else 'RL'}"
        drawn = axes.bar(positions, heights, width, color=colours[mode], alpha=0.4 if pale else 1.0, label=label)
        axes.bar_label(drawn, fmt="%.2f", fontsize=7, padding=6)
        if means.get("f1_stderr"):
            f1 = list(_NAMES).index("f1")
            axes.errorbar(
                positions[f1], heights[f1], means["f1_stderr"], color="#333333", linewidth=1, capsize=2, fmt="none"
            )
    clips = bars[0][2]["n"]
    axes.set(title=f"Greedy answers, {clips} test clips (bars on F1: standard error)", ylim=(0, 1.15))
    axes.set_xticks(range(len(_NAMES)), _NAMES.values())
    axes.grid(axis="x", visible=False)
    axes.legend(loc="upper center", ncols=4, fontsize=8, columnspacing=1.0, handlelength=1.2)
