"""Measure the time of an RL run: start-up, and the median of each phase of a step.

    python benchmarks/loop.py --json [--steps 8] [key=value …]     a short run of main_ppo with these overrides
    python benchmarks/loop.py --json --run-dir outputs/demo/mer_r1     an existing run; its start-up time is not known

The phases are verl's timers; update_weights is the transfer of weights to vLLM, and old_log_prob is about 0 where the
run makes no such pass (mer_r1.old_log_probs). A step of the short run has 8 prompts with 4 responses each, for every
preset, so that numbers are comparable; its micro-batches are the preset's. Overrides come after that.

    python benchmarks/loop.py --json --against REV                 this tree against a checkout of a git revision
    python benchmarks/loop.py --json --experiments baseline,mer_r1     mer_r1's step against baseline's, in this tree

These two compare complete runs in turns (A B, B A, …; --turns) on the same machine. The corpus, the model and the seeds
are the same. A run has 7 steps of the preset's size (tiny: 24 prompts with 4 responses). The code of REV runs in this
environment. Ratios are taken within a turn; min and max are over the turns. Run nothing else beside it.
The model and the corpus are those of `make demo`; overrides name others (preset.model_path=DIR preset.train_files=FILE
preset.val_files=FILE). With --json, the last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import loop_tree
import loop_turns
from loop_run import measure, phases

SIZE = ("preset.prompts_per_step=8", "preset.responses_per_prompt=4")
"""Of the short run."""
INPUTS = {
    "preset.model_path": "outputs/demo/sft/model",
    "preset.train_files": "outputs/demo/corpus/shards/rl.parquet",
    "preset.val_files": "outputs/demo/corpus/shards/test.parquet",
}


def inputs(overrides: Sequence[str], root: Path) -> list[str]:
    """The overrides with absolute paths of the model and the shards, because each tree runs in its own folder.

    Args:
        root: the folder that the defaults, those of `make demo`, are in.

    Raises:
        SystemExit: a file or folder does not exist.
    """
    given = dict(override.split("=", 1) for override in overrides)
    found = {key: Path(given[key]).absolute() if key in given else root / default for key, default in INPUTS.items()}
    for key, path in found.items():
        if not path.exists():
            raise SystemExit(
                f"{key}: {path} does not exist. Run `make demo`, which makes the corpus and the model of SFT, or name "
                f"others: {' '.join(f'{name}=…' for name in INPUTS)}"
            )
    rest = [f"{key}={value}" for key, value in given.items() if key not in INPUTS]
    return [*(f"{key}={path}" for key, path in found.items()), *rest]


def compare(
    experiments: Sequence[str], against: str | None, turns: int, steps: int, overrides: Sequence[str]
) -> dict[str, Any]:
    """Run the experiments in this tree, and in a checkout of `against`, in turns."""
    overrides = inputs(overrides, loop_tree.ROOT)
    with ExitStack() as stack:
        trees = {"this tree": loop_tree.ROOT}
        if against is not None:
            trees = {against: stack.enter_context(loop_tree.checkout(against)), **trees}
        commits = {name: loop_tree.name_of(tree) for name, tree in trees.items()}
        for experiment in experiments:
            checked = [f"experiment={experiment}", f"preset.steps={steps}", *overrides]
            configs = [loop_tree.composed(tree, checked) for tree in trees.values()]
            loop_tree.require_same_work(configs[-1], configs[0])
        for tree in trees.values():
            loop_tree.require_own_code(tree)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mer-r1-loop-")))

        def run(kind: loop_turns.Kind, turn: int) -> dict[str, Any]:
            tree, experiment = kind
            run_dir = folder / f"{turn}-{list(trees).index(tree)}-{experiment}"
            found = measure(run_dir, steps, [f"experiment={experiment}", *overrides], trees[tree])
            print(f"turn {turn + 1}: {tree} {experiment} {found['median_seconds']['step']:.2f} s/step", file=sys.stderr)
            return found

        results = loop_turns.take(loop_turns.plan(list(trees), experiments, turns), run)
    return {
        "steps": steps,
        "turns": turns,
        "overrides": overrides,
        "commits": commits,
        **loop_turns.compared(results, loop_turns.pairs(list(trees), experiments)),
    }


def table(result: Mapping[str, Any]) -> str:
    """One run as text."""
    startup = result["startup_seconds"]
    lines = [f"start-up to the first step  {'not known' if startup is None else f'{startup:.1f} s'}"]
    lines += [f"first step                  {result['first_step_seconds']:.2f} s"]
    lines += [f"{name:<27} {seconds:.2f} s" for name, seconds in result["median_seconds"].items()]
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--run-dir", type=Path, help="read this run instead of starting one")
    parser.add_argument("--against", metavar="REV", help="compare with a checkout of this git revision")
    parser.add_argument(
        "--experiments",
        type=lambda text: text.split(","),
        metavar="NAME,…",
        help="default with --against: baseline,mer_r1",
    )
    parser.add_argument("--turns", type=int, default=2, help="runs of each kind in a comparison (default 2)")
    parser.add_argument("--steps", type=int, help="steps of a run (default 8; in a comparison 7)")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="overrides for main_ppo, e.g. preset.model_path=DIR"
    )
    given = parser.parse_args()
    if given.run_dir and (given.overrides or given.against or given.experiments):
        parser.error("--run-dir reads a finished run; overrides (key=value), --against and --experiments need new runs")
    if wrong := [override for override in given.overrides if "=" not in override]:
        parser.error(f"not an override (key=value): {wrong[0]}")
    if (given.against or given.experiments) and any(override.startswith("experiment=") for override in given.overrides):
        parser.error("a comparison takes --experiments NAME,… instead of experiment=NAME")
    if given.turns < 1:
        parser.error("--turns must be at least 1")
    if given.steps is not None and given.steps < 2:
        parser.error("--steps must be at least 2: the first step warms up")
    return given


def main() -> None:
    given = arguments()
    if given.against is not None or given.experiments:
        experiments = given.experiments or ["baseline", "mer_r1"]
        result = compare(experiments, given.against, given.turns, given.steps or 7, given.overrides)
        print(loop_turns.table(result))
        if given.json:
            print(json.dumps(result))
        return
    if given.run_dir:
        result = {"startup_seconds": None, "peak_rss_gb": None, **phases(given.run_dir)}
    else:
        with tempfile.TemporaryDirectory(prefix="mer-r1-loop-") as folder:
            result = measure(Path(folder), given.steps or 8, [*SIZE, *given.overrides])
    print(json.dumps(result, indent=1) if given.json else table(result))


if __name__ == "__main__":
    main()
