"""`main_eval tables`: folders of answers → results.json, the paper's tables with our numbers, a picture.

A folder may be named NAME=DIR; folders of one NAME are one row, whose name is that of an experiment where the paper's
numbers are to stand beside it (baseline, mer_r1 …).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from recipe.mer_r1.eval import dumbbell, layout
from recipe.mer_r1.eval.answers import MODES
from recipe.mer_r1.eval.errors import InputError
from recipe.mer_r1.eval.layout import Entry
from recipe.mer_r1.eval.measure import measure
from recipe.mer_r1.eval.results import FolderResults, read_results, write_results
from recipe.mer_r1.eval.score import RuleSet, load_wheels
from recipe.mer_r1.paper import load_paper
from recipe.mer_r1.wheel import EmotionWheels

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

TABLES = {"table_1": "Official metrics (Table 1)", "table_3": "Unified F1 (Table 3)"}


@app.command(help=__doc__)
def tables(
    folders: Annotated[list[str], typer.Argument(metavar="[NAME=]RESULT_DIR…", help="what `main_eval run` wrote")],
    paper: Annotated[
        bool, typer.Option("--paper", help="the paper's numbers too, and which of them ours lack")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="folder for tables.md, table_1.csv, table_3.csv, slow_fast.png and .svg")
    ] = (Path("outputs/tables")),
    wheels: Annotated[Path | None, typer.Option(help="folder of official wheel files; default: the embedded")] = None,
    builtin_wheels: Annotated[
        bool, typer.Option("--builtin-wheels", help="the embedded wheels for answers of a run with others")
    ] = False,
    rules: Annotated[RuleSet | None, typer.Option(help="undefined scores: NaN (mer2025) or 0 (mer2026)")] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="resamplings for 95 % intervals; 0: none")] = 1000,
    seed: Annotated[int, typer.Option(help="seed of the resampling")] = 0,
) -> None:
    """Exit code 2 says that the input is at fault."""
    try:
        if wheels and builtin_wheels:
            raise ValueError("--wheels and --builtin-wheels are two answers to one question; give one")
        table = load_wheels(wheels, rules)
        named = builtin_wheels or wheels is not None
        entries = layout.by_corpus([_entry(text, table, bootstrap, seed, named) for text in folders])
        layout.check(entries)
        out.mkdir(parents=True, exist_ok=True)
        text = report(entries, paper)
        (out / "tables.md").write_text(text + "\n", encoding="utf-8")
        for key in TABLES:
            found = _lines(entries, key, paper)
            (out / f"{key}.csv").write_text(layout.as_csv(found, layout.corpora_of(entries)), encoding="utf-8")
        if drawn := dumbbell.drawable(entries):
            dumbbell.draw(drawn, [out / "slow_fast.png", out / "slow_fast.svg"])
    except (ValueError, OSError) as error:  # InputError and WheelError are ValueErrors
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(text)


def report(entries: Sequence[Entry], paper: bool) -> str:
    """All tables as Markdown."""
    corpora = layout.corpora_of(entries)
    parts = []
    for key, title in TABLES.items():
        parts.append(layout.markdown(title, _lines(entries, key, paper), corpora, unified=key == "table_3"))
        if paper:
            covered = (f"- {line}" for line in layout.coverage(entries, load_paper()[key]))
            parts.append("Of the paper's rows that can be trained here:\n\n" + "\n".join(covered))
    if dumbbell.drawable(entries):
        parts.append(layout.gaps_markdown(entries))
    scored = entries[0].folder.results[0].wheels
    parts.append(f"Wheels {scored.name} {scored.version} ({scored.sha256[:12]}), rules {scored.rules}.")
    if paper and scored.sha256 == EmotionWheels.builtin().sha256:
        parts.append(
            "**The embedded wheels are not the paper's, which alone moves a score: name those with --wheels.**"
        )
    return "\n\n".join(parts)


def _lines(entries: Sequence[Entry], key: str, paper: bool) -> list[layout.Line]:
    ours = layout.lines(entries, unified=key == "table_3")
    return ours + (layout.paper_lines(load_paper()[key], layout.corpora_of(entries)) if paper else [])


def _entry(text: str, wheels: EmotionWheels, bootstrap: int, seed: int, wheels_named: bool) -> Entry:
    """Score a folder of answers and write its results.json; without answers, take the results.json that is there."""
    name, _, place = text.rpartition("=")
    folder = Path(place)
    if folder.is_dir() and not any((folder / f"{mode}.jsonl").is_file() for mode in MODES):
        found = read_results(folder)
        if wheels_named and found.results[0].wheels.sha256 != wheels.sha256:
            raise InputError(
                f"{folder}: holds no answers, only results on {found.results[0].wheels.name}; score it there"
            )
    else:
        found = measure(folder, wheels, bootstrap=bootstrap, seed=seed, wheels_named=wheels_named)
        write_results(folder, found)
    return Entry(name or _model_name(found), found)


def _model_name(found: FolderResults) -> str:
    """The model folder's name; `main_sft` and `main_ppo` write RUN/model, whose run says more."""
    model = Path(found.results[0].model)
    return model.parent.name if model.name == "model" else model.name
