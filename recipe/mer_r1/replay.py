"""Recompute the advantages of saved batches under any experiment, without a model.

    python -m recipe.mer_r1.replay BATCH experiment=mer_r1 [experiment=b1 …] [experiment.lambda_cali=0.3 …]
    python -m recipe.mer_r1.replay BATCH --all [--agreement] [--json]

BATCH is a file that ``main_ppo … trainer.rollout_data_dir=DIR`` wrote (DIR/STEP.jsonl), or the folder of several.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recipe.mer_r1.explain.agreement import Agreement, agreement
from recipe.mer_r1.explain.rollout_batch import Batch, BatchError, read_batches
from recipe.mer_r1.method import experiments
from recipe.mer_r1.method.advantage import ADVANTAGE, TermError, combine, whiten
from recipe.mer_r1.method.experiments import Estimator
from recipe.mer_r1.run import launch

REPRODUCED = 1e-4
"""Largest difference from the stored advantages with which a batch counts as trained by an estimator."""

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Replayed:
    """One experiment's advantages of all batches."""

    estimator: Estimator
    results: list[dict[str, torch.Tensor]]
    """Of ``advantage.combine``, one a batch."""
    difference: float | None
    """Largest absolute difference from the stored advantages; None where there are none."""
    trained: bool
    """Whether the batches were trained with this: the same terms, and the advantages are reproduced."""


def estimator_from(experiment: str, overrides: Sequence[str]) -> Estimator:
    """An experiment's estimator with overrides as on a run's command line.

    Raises HydraException, OmegaConfBaseException or TermError for what a run would refuse.
    """
    found = experiments.estimator_of(launch.compose("replay", [f"experiment={experiment}", *overrides]))
    if found is None:
        raise TermError(
            "algorithm.adv_estimator is one of verl's own estimators; replay only computes advantages made of terms"
        )
    return found


def advantages(batch: Batch, estimator: Estimator) -> dict[str, torch.Tensor]:
    """What ``combine`` gives, whitened where the estimator says so.

    Raises TermError where the batch lacks something.
    """
    result = combine(batch.signals, batch.group, estimator.terms)
    if estimator.whiten:
        if batch.tokens is None:
            raise TermError("whitening weights responses by their tokens, but the batch has no column `tokens`")
        result[ADVANTAGE] = whiten(result[ADVANTAGE], batch.tokens)
    return result


def replay(batches: Sequence[Batch], estimator: Estimator) -> Replayed:
    """All batches under one estimator. Raises TermError, naming the batch, where one lacks something."""
    results, differences, same_terms = [], [], True
    names = {term.name for term in estimator.terms}
    for batch in batches:
        try:
            results.append(advantages(batch, estimator))
        except TermError as error:
            raise TermError(f"{batch.path}: {error}") from error
        same_terms &= all(set(row.get("terms", {})) == names for row in batch.rows)
        if batch.advantage is not None:
            differences.append((results[-1][ADVANTAGE] - batch.advantage).abs().max().item())
    difference = max(differences) if len(differences) == len(batches) else None
    trained = same_terms and difference is not None and difference <= REPRODUCED
    return Replayed(estimator, results, difference, trained)


def reference_of(found: dict[str, Replayed]) -> str:
    """What the others are compared with: the experiment that trained, or else the first."""
    return next((name for name, replayed in found.items() if replayed.trained), next(iter(found)))


def agreements(batches: Sequence[Batch], found: dict[str, Replayed]) -> dict[str, Agreement]:
    """Each experiment beside :func:`reference_of`."""
    reference, groups = found[reference_of(found)].results, [batch.group for batch in batches]
    return {name: agreement(replayed.results, reference, groups) for name, replayed in found.items()}


def as_json(batches: Sequence[Batch], found: dict[str, Replayed], missing: dict[str, str]) -> dict[str, Any]:
    """Everything, for machines: per experiment, what was not computed and why, and per response."""
    beside = {name: one.as_json() for name, one in agreements(batches, found).items()} if found else {}
    return {
        "agreement": {"reference": reference_of(found), "experiments": beside} if found else None,
        "experiments": {
            name: {
                "terms": [{"name": t.name, "signals": t.signals, "weight": t.weight} for t in replayed.estimator.terms],
                "whiten": replayed.estimator.whiten,
                "max_abs_difference": replayed.difference,
                "trained": replayed.trained,
            }
            for name, replayed in found.items()
        },
        "not_computed": missing,
        "responses": [
            {
                "file": str(batch.path),
                "line": index + 1,
                "uid": row["uid"],
                "signals": row["signals"],
                "stored": {"terms": row.get("terms"), "advantage": row.get("advantage")},
                "experiments": {name: _parts(replayed, number, index) for name, replayed in found.items()},
            }
            for number, batch in enumerate(batches)
            for index, row in enumerate(batch.rows)
        ],
    }


def _parts(replayed: Replayed, number: int, index: int) -> dict[str, Any]:
    parts = {name: values[index].item() for name, values in replayed.results[number].items()}
    return {"advantage": parts.pop(ADVANTAGE), "terms": parts}


def group_table(batch: Batch, number: int, group: str, found: dict[str, Replayed]) -> Table:
    """The responses to one prompt side by side: what they say, their signals, each experiment's terms and advantage."""
    members = [index for index, label in enumerate(batch.group) if label == group]
    rows = [batch.rows[index] for index in members]
    labels = ", ".join(map(str, rows[0].get("gts") or []))
    title = f"{batch.path.name}, prompt {group}" + (f", labels: {labels}" if labels else "")
    table = Table(box=SIMPLE_HEAD, title=Text(title), title_justify="left", pad_edge=False)
    table.add_column("")
    for row in rows:
        table.add_column("_".join(row["uid"].rsplit("_", 2)[1:]), justify="right", max_width=22)
    table.add_row("answer", *(Text(_answer(row)) for row in rows))
    for name, values in batch.signals.items():
        table.add_row(f"signal {name}", *(_number(values[index].item()) for index in members))
    for name, replayed in found.items():
        table.add_section()
        table.add_row(Text(name + (" (trained)" if replayed.trained else ""), "bold"))
        for part, values in replayed.results[number].items():
            style = "bold" if part == ADVANTAGE else ""
            table.add_row(f"  {part}", *(_number(values[index].item()) for index in members), style=style)
    if batch.advantage is not None:
        table.add_section()
        table.add_row("stored advantage", *(_number(batch.advantage[index].item()) for index in members))
    return table


def _answer(row: dict[str, Any]) -> str:
    """What stands in the last answer tag, or the end of a response without one."""
    output = str(row.get("output", ""))
    return output.rpartition("<answer>")[2].partition("</answer>")[0] if "<answer>" in output else f"…{output[-30:]}"


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def summary(found: dict[str, Replayed]) -> Table:
    """The experiments, and which of them the batches were trained with."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("experiment", "terms", "largest difference from stored", "used in training"):
        table.add_column(heading)
    for name, replayed in found.items():
        difference = "no stored advantage" if replayed.difference is None else f"{replayed.difference:.1e}"
        table.add_row(
            name,
            Text(str(replayed.estimator)),
            difference,
            "yes" if replayed.trained else "",
        )
    return table


def agreement_table(batches: Sequence[Batch], found: dict[str, Replayed]) -> Table:
    """How far the advantages of each experiment are from those of the reference, on the same responses."""
    reference = reference_of(found)
    responses = sum(len(batch.group) for batch in batches)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title_justify="left")
    table.title = Text(f"Advantages of the same {responses} responses, beside those of {reference}")
    for heading in ("experiment", "std", f"r with {reference}", "other sign", "groups without", "std of its terms"):
        table.add_column(heading, justify="left" if heading in ("experiment", "std of its terms") else "right")
    for name, one in agreements(batches, found).items():
        table.add_row(
            Text(name),
            f"{one.std:.2f}",
            "–" if one.correlation is None else f"{one.correlation:.3f}",
            "–" if one.opposite is None else f"{one.opposite:.1%}",
            f"{one.without:.1%}",
            Text(", ".join(f"{term} {value:.2f}" for term, value in one.terms.items())),
        )
    return table


@app.command()
def main(
    batch: Annotated[Path, typer.Argument(help="saved batch DIR/STEP.jsonl, or DIR for all steps")],
    overrides: Annotated[list[str] | None, typer.Argument(help="experiment=NAME, experiment.KEY=VALUE, …")] = None,
    every: Annotated[bool, typer.Option("--all", help="use all experiments")] = False,
    beside: Annotated[
        bool, typer.Option("--agreement", help="how much the experiments differ over all responses, and no groups")
    ] = False,
    machine: Annotated[bool, typer.Option("--json", help="print JSON instead of tables")] = False,
) -> None:
    """Recompute the advantages of saved batches (main_ppo … trainer.rollout_data_dir=DIR) without a model.

    Shows signals, terms and advantages of each response side by side, and finds the experiment that the batches were
    trained with. With --agreement: over all responses, how far the advantages of each experiment are from those of the
    one that trained (or else the first); no run can tell experiments apart whose advantages are nearly the same. The
    exit code is 2 if the batch or the overrides cannot be used.
    """
    choice = "experiment="
    named = [text.removeprefix(choice) for text in overrides or [] if text.startswith(choice)]
    changes = [text for text in overrides or [] if not text.startswith(choice)]
    if bool(named) == every:
        raise _complaint("give an experiment (experiment=mer_r1) or --all" + (", not both" if every else ""))
    found: dict[str, Replayed] = {}
    missing: dict[str, str] = {}
    try:
        batches = read_batches(batch)
        estimators = {name: estimator_from(name, changes) for name in (named or experiments.names())}
    except (BatchError, TermError, HydraException, OmegaConfBaseException) as error:
        raise _complaint(str(error)) from error
    for name, estimator in estimators.items():
        try:
            found[name] = replay(batches, estimator)
        except TermError as error:
            missing[name] = str(error)
    if machine:
        print(json.dumps(as_json(batches, found, missing), ensure_ascii=False, indent=1))
    else:
        _print(batches, found, missing, beside)
    if not found:
        raise _complaint("nothing could be computed")


def _print(batches: Sequence[Batch], found: dict[str, Replayed], missing: dict[str, str], beside: bool) -> None:
    # Into a file or a pipe: as wide as the tables are.
    console = Console(width=None if sys.stdout.isatty() else 500, highlight=False)
    if found and beside:
        console.print(agreement_table(batches, found))
    elif found:
        for number, batch in enumerate(batches):
            for group in dict.fromkeys(batch.group):
                console.print(group_table(batch, number, group, found))
        console.print(summary(found))
        if not any(replayed.trained for replayed in found.values()):
            console.print(f"No experiment reproduces the stored advantages (tolerance {REPRODUCED:g}).")
    for name, reason in missing.items():
        console.print(Text(f"{name} cannot be computed: {reason}"))


def _complaint(text: str) -> typer.Exit:
    print(f"replay: {text}", file=sys.stderr)
    return typer.Exit(2)


if __name__ == "__main__":
    app(prog_name="python -m recipe.mer_r1.replay")
