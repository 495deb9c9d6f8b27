"""Draw the curves of several RL runs in one figure, and print a table of their first and last steps.

    python -m recipe.mer_r1.curves baseline=outputs/baseline mer_r1=outputs/mer_r1 --out curves.png

Reads each run's metrics.jsonl: recall, precision and F1 of the sampled slow answers (the paper's Figure 7), and the
confidence margin of slow and fast thinking (Eq. 2) of the runs that logged it.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from recipe.mer_r1.files import exits
from recipe.mer_r1.run import steps

CURVES = {"reward/recall": "Recall", "reward/precision": "Precision", "reward/f1": "F1"}
MARGINS = {"confidence/margin_slow/mean": "slow", "confidence/margin_fast/mean": "fast"}
# Okabe and Ito's colours, which stay apart for most colour-blind readers.
COLOURS = ("#444444", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
WINDOW = 10

Run = Mapping[str, Sequence[float]]


def read_run(folder: Path) -> dict[str, list[float]]:
    """The curves of a run by metric, one value a step.

    Raises:
        SystemExit: no metrics, or no training step in them.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        raise SystemExit(f"{path} is missing; give the run_dir of a main_ppo run.")
    taken = [data for data in steps.read(path).values() if "reward/f1" in data]
    if not taken:
        raise SystemExit(f"{path} has no training step yet.")
    return {name: [data[name] for data in taken if name in data] for name in (*CURVES, *MARGINS)}


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
            (first, first_error), (last, last_error) = ends(run[metric])
            cells.append(f"{first:.3f} ± {first_error:.3f} → {last:.3f} ± {last_error:.3f}")
        lines.append(f"| {name} | {len(run['reward/f1'])} | {' | '.join(cells)} |")
    return "\n".join([*lines, f"\nMeans over the first and the last {WINDOW} steps, ± standard error."])


def draw(runs: Mapping[str, Run], path: Path) -> None:
    """Write the picture."""
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    from recipe.mer_r1.pages.figure_style import STYLE

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 4, figsize=(16, 4.2), layout="constrained")
        for colour, (name, run) in zip(COLOURS, runs.items(), strict=False):
            for axis, metric in zip(axes, CURVES, strict=False):
                numbers = range(1, len(run[metric]) + 1)
                axis.plot(numbers, run[metric], color=colour, linewidth=0.7, alpha=0.25)
                axis.plot(numbers, steps.trend(run[metric]), color=colour, linewidth=2.2, label=name, marker=_dot(run))
            for metric, mode in MARGINS.items():
                if run[metric]:
                    style = "-" if mode == "slow" else "--"
                    values = steps.trend(run[metric])
                    numbers = range(1, len(values) + 1)
                    axes[3].plot(numbers, values, style, color=colour, linewidth=2.2, marker=_dot(run))
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
    runs = {}
    with exits.plain("curves", "interrupted"):
        for entry in arguments.runs:
            name, _, folder = entry.rpartition("=")
            runs[name or Path(folder).name] = read_run(Path(folder))
    print(table(runs))
    if arguments.out:
        draw(runs, arguments.out)
        print(f"\n{arguments.out}", file=sys.stderr)
    return exits.OK


if __name__ == "__main__":
    raise SystemExit(main())
