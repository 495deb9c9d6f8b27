"""Run the whole pipeline on a laptop: corpus, base model, SFT, RL with the baseline and with MER-R1, evaluation.

A finished stage with the same settings is kept; an interrupted stage continues. Everything is written to --out:
logs/STAGE.log, summary.json, results.png, results.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from recipe.mer_r1.demo.stages import DEFAULT_OUT, SCALES, plan
from recipe.mer_r1.files import exits
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.pipeline import process
from recipe.mer_r1.pipeline.chain import Chain
from recipe.mer_r1.pipeline.screen import Screen
from recipe.mer_r1.pipeline.stage_run import StageError


@exits.plain("demo")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; exit status 0, 1 where a stage failed, 2 where kept results cannot be used, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m recipe.mer_r1.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder for all files (default outputs/demo)")
    parser.add_argument("--seed", type=int, default=1, help="of the corpus and of all training (default 1)")
    parser.add_argument(
        "--rl-steps", type=int, help="number of RL steps (default: as in conf/preset/tiny.yaml; 4 with --scale small)"
    )
    parser.add_argument(
        "--scale", choices=[*SCALES], default="full", help="small: takes minutes, the model learns nothing; for CI"
    )
    arguments = parser.parse_args(argv)
    scale = replace(SCALES[arguments.scale], seed=arguments.seed)
    if arguments.rl_steps is not None:
        if arguments.rl_steps < 1:
            parser.error(f"--rl-steps {arguments.rl_steps}: must be at least 1")
        scale = replace(scale, rl_steps=arguments.rl_steps)

    if find_spec("matplotlib") is None:  # wanted at the end; said at the start
        parser.error("matplotlib is not installed: run `make setup`, or pip install -e '.[cpu,demo]'")

    console = Console()
    process.adopt_orphans()
    process.listen_to_signals()
    demo = Chain(arguments.out, plan(arguments.out, scale))
    try:
        with Screen({stage.name: stage.title for stage in demo.stages}, console) as screen:
            stamps = demo.run(screen)
    except KeyboardInterrupt:
        console.print("\nStopped; all processes have ended. Run the same command again to continue.", markup=False)
        return exits.INTERRUPTED
    except StageError as error:
        _show(console, error)
        return 1
    with exits.input_faults("demo", InputError, OSError):
        report(arguments.out, stamps, console)
    return 0


def report(out: Path, stamps: dict, console: Console) -> None:
    """Write summary.json, results.png and results.md; print the tables and what was found."""
    from recipe.mer_r1.demo import figure, summary

    found = summary.build(out, stamps)
    (out / "summary.json").write_text(json.dumps(found, indent=1) + "\n")
    figure.draw(found, out / "results.png")
    (out / "results.md").write_text(summary.page(found))
    for kind, sampled in (("Greedy answers", False), ("Sampled answers (temperature 1)", True)):
        rows = summary.table(found, sampled)
        clips = f"{kind} to {rows[1][-1]} test clips"  # the last column, of which a narrow terminal has no room
        console.print(_table(clips, [row[:-1] for row in rows]))
    for finding in found["findings"]:
        console.print(f"- {finding}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{out}/results.png, results.md, summary.json", markup=False, highlight=False, soft_wrap=True)


def _table(title: str, rows: list[list[str]]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=0)
    for name in rows[0]:
        table.add_column(name, justify="left" if name in ("model", "thinking") else "right", no_wrap=True)
    for row in rows[1:]:
        table.add_row(*row)
    return table


def _show(console: Console, error: StageError) -> None:
    console.print(f"\n{error}", style="bold red", markup=False, highlight=False)
    if error.lines:
        console.print("The last lines of its log:")
        for line in error.lines:
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"Complete log: {error.log}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
