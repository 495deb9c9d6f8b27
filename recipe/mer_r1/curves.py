"""Draw the curves of several runs in one figure, and print a table of their first and last steps.

    python -m recipe.mer_r1.curves baseline=outputs/baseline mer_r1=outputs/mer_r1 --out curves.png

Reads each run's metrics.jsonl. Of RL runs it shows recall, precision and F1 of the sampled slow answers (the paper's
Figure 7), and the confidence margin of slow and fast thinking (Eq. 2) of the runs that logged it. Of SFT runs it shows
recall, precision and F1 of the greedy slow and fast answers (preset.sft.score_every), and the loss. One figure has runs
of one kind.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from recipe.mer_r1.files import exits
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.files.named import folders_by_name
from recipe.mer_r1.live import series
from recipe.mer_r1.run import steps

CURVES = {"reward/recall": "Recall", "reward/precision": "Precision", "reward/f1": "F1"}
MARGINS = {"confidence/margin_slow/mean": "slow", "confidence/margin_fast/mean": "fast"}
# Okabe and Ito's colours, which stay apart for most colour-blind readers.
COLOURS = ("#444444", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
WINDOW = 10

Points = Sequence[tuple[int, float]]
"""(step, value) of a curve; a step without the value is left out."""
Run = Mapping[str, Points]
"""By metric: those of CURVES and MARGINS."""
SFTRun = Mapping[str, Points]
"""By curve: ``slow/f1``, ``fast/f1`` …, ``loss`` and ``val/loss``."""
_LOSSES = {"loss": "train/loss", "val/loss": "val/loss"}


def read_run(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves of a run by metric. The margin is undefined at some steps, and its curve has no point there.

    Raises:
        SystemExit: no metrics, or no training step in them.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        raise SystemExit(f"{path} is missing; give the run_dir of a main_ppo run.")
    found = steps.read(path)
    run = {name: series.curve(found, name) for name in (*CURVES, *MARGINS)}
    if not run["reward/f1"]:
        raise SystemExit(
            f"{path} has no training step of RL yet. An SFT run can be drawn when it has scored answers "
            "(preset.sft.score_every)."
        )
    return run


def read_sft_run(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves of an SFT run; {} for another run, or one that has scored no answers. A score is the plain mean over
    the sources of the clips."""
    path = folder / "metrics.jsonl"
    found = steps.read(path) if path.is_file() else {}
    validated = series.validation(found)
    if not validated or not any("train/loss" in data for data in found.values()):
        return {}
    scores = (metric.removeprefix("reward/") for metric in CURVES)
    curves = {
        f"{mode}/{score}": series.over_sources(validated, mode, score) for score in scores for mode in ("slow", "fast")
    }
    return curves | {name: series.curve(found, key) for name, key in _LOSSES.items()}


def ends(values: Sequence[float], window: int = WINDOW) -> list[tuple[float, float]]:
    """Mean and standard error of the first and of the last steps."""
    found = []
    for part in (values[:window], values[-window:]):
        error = statistics.stdev(part) / math.sqrt(len(part)) if len(part) > 1 else math.nan
        found.append((statistics.fmean(part), error))
    return found


def table(runs: Mapping[str, Run]) -> str:
    """Markdown: each run's first and last steps."""
    lines = [f"| run | steps | {' | '.join(CURVES.values())} |", "|---|---|" + "---|" * len(CURVES)]
    for name, run in runs.items():
        cells = []
        for metric in CURVES:
            (first, first_error), (last, last_error) = ends(_columns(run[metric])[1])
            cells.append(f"{first:.3f} ± {first_error:.3f} → {last:.3f} ± {last_error:.3f}")
        lines.append(f"| {name} | {len(run['reward/f1'])} | {' | '.join(cells)} |")
    return "\n".join([*lines, f"\nMeans over the first and the last {WINDOW} steps, ± standard error."])


def sft_table(runs: Mapping[str, SFTRun]) -> str:
    """Markdown: the first and the last scores of each SFT run."""
    lines = [f"| run | answers | steps | {' | '.join(CURVES.values())} |", "|---|---|---|" + "---|" * len(CURVES)]
    for name, run in runs.items():
        for mode in ("slow", "fast"):
            found = [run[f"{mode}/{metric.removeprefix('reward/')}"] for metric in CURVES]
            if not found[0]:
                continue
            cells = [f"{points[0][1]:.3f} → {points[-1][1]:.3f}" for points in found]
            numbers = f"{found[0][0][0]} → {found[0][-1][0]}"
            lines.append(f"| {name} | {mode} | {numbers} | {' | '.join(cells)} |")
    return "\n".join([*lines, "\nGreedy answers to validation clips, at the first and the last scored step."])


def draw_sft(runs: Mapping[str, SFTRun], path: Path) -> None:
    """Write the picture of SFT runs."""
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    from recipe.mer_r1.pages.figure_style import STYLE

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 4, figsize=(16, 4.2), layout="constrained")
        for colour, (name, run) in zip(COLOURS, runs.items(), strict=False):
            for axis, metric in zip(axes, CURVES, strict=False):
                for mode, style in (("slow", "-"), ("fast", "--")):
                    points = run[f"{mode}/{metric.removeprefix('reward/')}"]
                    label = name if mode == "slow" else None
                    axis.plot(*_columns(points), style, color=colour, linewidth=2.2, marker="o", label=label)
            numbers, losses = _columns(run["loss"])
            axes[3].plot(numbers, steps.trend(losses), color=colour, linewidth=2.2)
            axes[3].plot(*_columns(run["val/loss"]), "o--", color=colour)
        titles = [f"{title}, greedy (dashed: fast)" for title in CURVES.values()]
        for axis, title in zip(axes, [*titles, "Loss (dots: validation)"], strict=True):
            axis.set(title=title, xlabel="SFT step")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
        figure.savefig(path, dpi=150)
        plt.close(figure)


def _columns(points: Points) -> tuple[list[int], list[float]]:
    return [number for number, _ in points], [value for _, value in points]


def draw(runs: Mapping[str, Run], path: Path) -> None:
    """Write the picture."""
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    from recipe.mer_r1.pages.figure_style import STYLE

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 4, figsize=(16, 4.2), layout="constrained")
        for colour, (name, run) in zip(COLOURS, runs.items(), strict=False):
            for axis, metric in zip(axes, CURVES, strict=False):
                numbers, values = _columns(run[metric])
                axis.plot(numbers, values, color=colour, linewidth=0.7, alpha=0.25)
                axis.plot(numbers, steps.trend(values), color=colour, linewidth=2.2, label=name, marker=_dot(run))
            for metric, mode in MARGINS.items():
                if run[metric]:
                    style = "-" if mode == "slow" else "--"
                    numbers, values = _columns(run[metric])
                    axes[3].plot(numbers, steps.trend(values), style, color=colour, linewidth=2.2, marker=_dot(run))
        for axis, title in zip(axes, [*CURVES.values(), "Confidence margin (Eq. 2), nats"], strict=True):
            axis.set(title=title, xlabel="RL step")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axes[3].lines:
            axes[3].set_title("Confidence margin, nats (dashed: fast)")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))  # beside the curves, not on them
        figure.savefig(path, dpi=150)
        plt.close(figure)


def _dot(run: Run) -> str:
    """A mark for each step where they are few."""
    return "o" if len(run["reward/f1"]) < steps.WINDOW else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="NAME=RUN_DIR",
        help="run folder and its name in the figure; default name: the folder's name",
    )
    parser.add_argument("--out", type=Path, help="figure file (.png, .svg); the table is always printed")
    arguments = parser.parse_args(argv)
    if len(arguments.runs) > len(COLOURS):
        parser.error(f"a figure can show at most {len(COLOURS)} runs")
    try:
        named = folders_by_name(arguments.runs, "runs", "NAME=RUN_DIR")
    except InputError as error:
        parser.error(str(error))
    with exits.plain("curves", "interrupted"):
        sft = {name: run for name, folder in named.items() if (run := read_sft_run(folder))}
        if sft and len(sft) < len(named):
            others = ", ".join(sorted(named.keys() - sft.keys()))
            raise SystemExit(
                f"{', '.join(sft)}: SFT runs with scores, which cannot be in one figure with {others}. Draw SFT runs "
                "and RL runs apart."
            )
        runs = {} if sft else {name: read_run(folder) for name, folder in named.items()}
    print(sft_table(sft) if sft else table(runs))
    if arguments.out:
        draw_sft(sft, arguments.out) if sft else draw(runs, arguments.out)
        print(f"\n{arguments.out}", file=sys.stderr)
    return exits.OK


if __name__ == "__main__":
    raise SystemExit(main())
