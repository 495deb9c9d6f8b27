"""The paper's ablation: run what is missing of a table (conf/ablation.yaml), list it, make a page of the results.

    python -m recipe.mer_r1.ablation run [--only ROW …] [--seeds N …] [--jobs N]
    python -m recipe.mer_r1.ablation list
    python -m recipe.mer_r1.ablation report

`run` can be stopped with Ctrl-C and continued with the same command, also in the middle of a run. Models, answers and
logs are written to --out, one JSON for each run to --results.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from recipe.mer_r1.ablation import record, state
from recipe.mer_r1.ablation.plan import Plan, Run
from recipe.mer_r1.ablation.results import Results
from recipe.mer_r1.ablation.runner import Runner
from recipe.mer_r1.ablation.table import DEFAULT_TABLE, Table, load_table
from recipe.mer_r1.ablation.work import work
from recipe.mer_r1.files import exits
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.pipeline import process
from recipe.mer_r1.pipeline.screen import Screen

DEFAULT_OUT = Path("outputs/ablation")
DEFAULT_RESULTS = Path("docs/results/ablation")
DEFAULT_PAGE = Path("docs/results/ablation.md")


@exits.plain("ablation")
def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, 1 where a run failed, 2 for wrong input, 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.do(arguments)
    except InputError as error:
        print(f"ablation: {error}", file=sys.stderr)
        return exits.INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recipe.mer_r1.ablation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="make what is missing")
    run.set_defaults(do=_run)
    listing = commands.add_parser("list", help="print all runs with their state")
    listing.set_defaults(do=_list)
    report = commands.add_parser("report", help="make the page and its figure of the records")
    report.set_defaults(do=_report)
    report.add_argument("--table", type=Path, default=DEFAULT_TABLE, help="default: conf/ablation.yaml")
    report.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="change keys of the table")
    report.add_argument("--results", type=Path, default=DEFAULT_RESULTS, help="records; default: %(default)s")
    report.add_argument(
        "--out", type=Path, default=DEFAULT_PAGE, help="the page; the figure is beside it; default: %(default)s"
    )
    for command in (run, listing):
        command.add_argument("--table", type=Path, default=DEFAULT_TABLE, help="default: conf/ablation.yaml")
        command.add_argument(
            "--set", nargs="+", default=[], metavar="KEY=VALUE", help="change keys of the table: evaluation.samples=1 …"
        )
        command.add_argument(
            "--out", type=Path, default=DEFAULT_OUT, help="models, answers and logs; default: %(default)s"
        )
        command.add_argument("--results", type=Path, default=DEFAULT_RESULTS, help="records; default: %(default)s")
        command.add_argument("--only", nargs="+", default=[], metavar="ROW", help="these rows and controls alone")
        command.add_argument("--seeds", nargs="+", type=int, default=[], metavar="N", help="these seeds alone")
    run.add_argument("--task", type=int, metavar="N", help="only the N-th run of `list --names`, from 0")
    run.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="commands at a time, and so many evaluations beside them; default: half the cores; on GPUs 1",
    )
    other = run.add_mutually_exclusive_group()
    other.add_argument("--redo", action="store_true", help="make again what was made with other settings")
    other.add_argument("--keep", action="store_true", help="take what was made with other settings as it is")
    listing.add_argument("--names", action="store_true", help="only ROW-SEED of each run, one per line")
    listing.add_argument(
        "--rows", action="store_true", help="only the rows, one per line: name, start, overrides of main_ppo"
    )
    return parser


def chosen_runs(table: Table, only: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, int]]:
    """Rows and seeds that are asked for.

    Raises:
        InputError: the table has none, or no such row.
    """
    _check_rows(table, only)
    found = table.runs(only, seeds)
    if lost := sorted(set(seeds) - {seed for _, seed in found}):
        raise InputError(f"--seeds {' '.join(map(str, lost))}: no row is run on it")
    return found


def _check_rows(table: Table, only: Sequence[str]) -> None:
    if unknown := [name for name in only if name not in table.everything]:
        raise InputError(f"--only {' '.join(unknown)}: use rows of the table: {', '.join(table.everything)}")


def with_starts(plan: Plan, runs: Sequence[tuple[str, int]]) -> list[Run]:
    """The runs, and before the first run of each start the start."""
    found: dict[str, Run] = {}
    for name, seed in runs:
        start = plan.start(plan.table.everything[name].start, seed)
        found.setdefault(start.name, start)
        found[f"{name}-{seed}"] = plan.run(name, seed)
    return list(found.values())


def _run(arguments: argparse.Namespace) -> int:
    table = load_table(arguments.table, arguments.set)
    runs = chosen_runs(table, arguments.only, arguments.seeds)
    if arguments.task is not None:
        if not 0 <= arguments.task < len(runs):
            raise InputError(f"--task {arguments.task}: the runs are 0 to {len(runs) - 1} (`list --names`)")
        runs = [runs[arguments.task]]
    plan = Plan(table, arguments.out)
    todo = _missing(with_starts(plan, runs), arguments)
    console = Console()
    if not todo:
        console.print(f"All runs are done: {arguments.results}", markup=False, highlight=False)
        return 0
    jobs = plan.jobs if arguments.jobs is None else arguments.jobs
    if jobs < 1:
        raise InputError(f"--jobs {jobs}: must be at least 1")
    process.adopt_orphans()
    process.listen_to_signals()
    wanted = work(plan, todo)
    runner = Runner(wanted, arguments.out, arguments.results, jobs, arguments.redo)
    try:
        with Screen(wanted.units, console) as screen:
            runner.run(screen)
    except KeyboardInterrupt:
        console.print("\nStopped; all processes have ended. Run the same command again to continue.", markup=False)
        return exits.INTERRUPTED
    for name, reason in runner.failed.items():
        console.print(f"{name} failed: {reason}", style="bold red", markup=False, highlight=False)
    console.print(f"{len(runner.finished)} records written to {arguments.results}", markup=False, highlight=False)
    return 1 if runner.failed else 0


def _missing(runs: Sequence[Run], arguments: argparse.Namespace) -> list[Run]:
    """Runs without a record of these settings.

    Raises:
        InputError: there are records of other settings, and neither --redo nor --keep was given.
    """
    states = {run.name: state.state_of(run, arguments.results, arguments.out) for run in runs}
    stale = {name: text for name, (found, text) in states.items() if found == state.STALE}
    if stale and not (arguments.redo or arguments.keep):
        shown = "\n".join(f"  {name}: {text}" for name, text in stale.items())
        raise InputError(
            f"records in {arguments.results} were made with other settings:\n{shown}\n"
            "Add --redo to make them again, --keep to take them as they are, or choose another --results and --out."
        )
    done = (record.FINISHED, state.STALE) if arguments.keep else (record.FINISHED,)
    return [run for run in runs if states[run.name][0] not in done]


def _list(arguments: argparse.Namespace) -> int:
    table = load_table(arguments.table, arguments.set)
    if arguments.rows:
        _check_rows(table, arguments.only)
        for name, row in table.everything.items():
            if not arguments.only or name in arguments.only:
                print(" ".join([name, row.start, f"experiment={row.experiment}", *row.overrides]))
        return 0
    runs = chosen_runs(table, arguments.only, arguments.seeds)
    if arguments.names:
        print("\n".join(f"{name}-{seed}" for name, seed in runs))
        return 0
    plan = Plan(table, arguments.out)
    grid = Grid("run", "state", "", box=None, padding=(0, 2, 0, 0))
    for run in with_starts(plan, runs):
        grid.add_row(*map(Text, (run.name, *state.state_of(run, arguments.results, arguments.out))))
    Console().print(grid)
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from recipe.mer_r1.ablation import page, picture
    from recipe.mer_r1.ablation.answers import answers

    results = Results.load(arguments.results, load_table(arguments.table, arguments.set))
    if not results.rows:
        raise InputError(f"{arguments.results}: no record of a finished run; make some with `ablation run`")
    figure = arguments.out.with_suffix(".png")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    whole, curves = (figure.with_stem(f"{figure.stem}_{name}") for name in ("all", "curves"))
    picture.draw(results, picture.main_rows(results), figure)
    picture.draw(results, results.rows, whole)
    picture.draw_curves(results, curves)
    arguments.out.write_text(page.page(results, figure.name, whole.name, curves.name), encoding="utf-8")
    for one in answers(results):
        print(f"{one.question} {one.verdict}")
    print(f"{arguments.out}, {figure}, {whole}, {curves}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
