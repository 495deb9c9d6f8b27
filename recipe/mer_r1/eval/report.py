"""Make results.json, the paper's tables with our numbers, and figures from folders of answers.

NAME=DIR gives a folder a name; DIR can contain several corpora. Folders with the same NAME are one row. Use the name of
an experiment (baseline, mer_r1 …) to see the paper's numbers for it. Run these on the folder before: `main_eval
sentiment` for WAF, `main_eval judge` for MME-Emotion, `main_eval confidence` for the confidences of Figures 3 and 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from recipe.mer_r1.eval.answer_modes import MODES
from recipe.mer_r1.eval.answers import result_folders
from recipe.mer_r1.eval.corpora import task_of
from recipe.mer_r1.eval.figures import dumbbell, pictures
from recipe.mer_r1.eval.figures.panels import Picture
from recipe.mer_r1.eval.measure import measure
from recipe.mer_r1.eval.paper import load_paper
from recipe.mer_r1.eval.results import FolderResults, Result, read_results, write_results
from recipe.mer_r1.eval.score import BuiltinWheelsOption, RuleSet, WheelsOption, check_wheels_named_once, load_wheels
from recipe.mer_r1.eval.tables import ablation, benchmark, gaps, mme_emotion
from recipe.mer_r1.eval.tables.entry import Entry, by_corpus, check
from recipe.mer_r1.eval.tables.layout import Table, as_csv, markdown
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.files.named import split_name
from recipe.mer_r1.method.wheel import EmotionWheels

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def report(
    folders: Annotated[
        list[str], typer.Argument(metavar="[NAME=]DIR…", help="--out folder of `main_eval run`, or one corpus in it")
    ],
    paper: Annotated[
        bool, typer.Option("--paper", help="also show the paper's numbers, and those that we do not have")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="folder for tables.md, the tables as table_N.csv, and figures as .png and .svg")
    ] = (Path("outputs/report")),
    wheels: WheelsOption = None,
    builtin_wheels: BuiltinWheelsOption = False,
    rules: Annotated[RuleSet | None, typer.Option(help="undefined scores are NaN (mer2025) or 0 (mer2026)")] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="number of resamplings for 95 % intervals; 0: none")] = 1000,
    seed: Annotated[int, typer.Option(help="seed of the resampling")] = 0,
) -> None:
    """Exit code 2: the input is wrong."""
    try:
        check_wheels_named_once(wheels, builtin_wheels)
        table = load_wheels(wheels, rules)
        named = builtin_wheels or wheels is not None
        entries = by_corpus([_entry(name, folder, table, bootstrap, seed, named) for name, folder in _named(folders)])
        check(entries)
        found, drawn = tables(entries, paper), pictures.pictures(entries)
        text = as_markdown(found, drawn, entries, paper)
        _write(out, text, found, drawn)
    except (ValueError, OSError) as error:  # InputError and WheelError are ValueErrors
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(text)


def _write(out: Path, text: str, found: Sequence[Table], drawn: dict[str, Picture]) -> None:
    """Write the files, and take away those of an earlier report that this one has none of."""
    out.mkdir(parents=True, exist_ok=True)
    for key in load_paper():
        (out / f"{key}.csv").unlink(missing_ok=True)
    (out / "tables.md").write_text(text + "\n", encoding="utf-8")
    for one in found:
        (out / f"{one.key}.csv").write_text(as_csv(one), encoding="utf-8")
    pictures.write(drawn, out)


def tables(entries: Sequence[Entry], paper: bool) -> list[Table]:
    """The tables, in the paper's order. Without the paper's rows, those of which we have nothing are left out."""
    printed = load_paper() if paper else {}
    judged = [entry for entry in entries if task_of(entry.corpus) == "judge"]
    others = [entry for entry in entries if task_of(entry.corpus) != "judge"]
    found = (
        [benchmark.table(key, others, printed.get(key)) for key in ("table_1", "table_3")] if others or paper else []
    )
    if judged or paper:
        found.append(mme_emotion.table(judged, printed.get("table_2")))
    for key in ablation.KEYS:
        table = ablation.table(key, others, printed.get(key))
        if paper or any(cell is not None for line in table.lines for cell in line.cells.values()):
            found.append(table)
    return sorted(found, key=lambda table: table.key)


def as_markdown(found: Sequence[Table], drawn: dict[str, Picture], entries: Sequence[Entry], paper: bool) -> str:
    """All tables, fast less slow, the figures and what they lack, and who scored."""
    parts = [markdown(table) for table in found]
    if paired := dumbbell.drawable(entries):
        parts.append(gaps.markdown(paired))
    parts.append(pictures.markdown(drawn, entries))
    return "\n\n".join([*parts, *_scorers([result for entry in entries for result in entry.folder.results], paper)])


def _scorers(results: Sequence[Result], paper: bool) -> list[str]:
    """The wheels, the mapper and the judge, and where they are not the paper's."""
    wheels = results[0].wheels
    parts = [f"Wheels {wheels.name} {wheels.version} ({wheels.sha256[:12]}), rules {wheels.rules}."]
    if paper and wheels.sha256 == EmotionWheels.builtin().sha256:
        parts.append(
            "**The embedded wheels are not the paper's wheels, and this alone changes a score: use the paper's wheels "
            "with --wheels.**"
        )
    mapper = next((result.sentiment for result in results if result.sentiment), None)
    if mapper:
        parts.append(f"Sentiment: {_facts(mapper.identity)}.")
        if paper and mapper.name == "lexicon":
            parts.append("**In the paper, Qwen2.5-7B-Instruct maps the words: WAF from a lexicon is not comparable.**")
    judged = next((result.judged for result in results if result.judged), None)
    if judged:
        parts.append(f"Judge: {_facts(judged.identity)}.")
        if paper:
            parts.append(
                "**The paper's judge is gemini-3.1-flash-lite-preview: another judge or another prompt gives other "
                "numbers.**"
            )
    return parts


def _facts(identity: dict[str, Any]) -> str:
    texts = (
        f"{key} ({_facts(value)})" if isinstance(value, dict) else f"{key} {value}" for key, value in identity.items()
    )
    return ", ".join(texts)


def _named(folders: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """The result folders of each NAME=DIR, and the name, which may be empty."""
    for text in folders:
        name, place = split_name(text)
        for folder in result_folders(Path(place)):
            yield name, folder


def _entry(name: str, folder: Path, wheels: EmotionWheels, bootstrap: int, seed: int, wheels_named: bool) -> Entry:
    """Score a folder of answers and write its results.json; without answers, take the results.json that is there."""
    if folder.is_dir() and not any((folder / f"{mode}.jsonl").is_file() for mode in MODES):
        found = read_results(folder)
        if wheels_named and found.results[0].wheels.sha256 != wheels.sha256:
            raise InputError(
                f"{folder}: has no answers, only results with the wheels {found.results[0].wheels.name}; use those"
            )
    else:
        found = measure(folder, wheels, bootstrap=bootstrap, seed=seed, wheels_named=wheels_named)
        write_results(folder, found)
    return Entry(name or _model_name(found), found)


def _model_name(found: FolderResults) -> str:
    """The model folder's name; `main_sft` and `main_ppo` write RUN/model, whose run says more."""
    model = Path(found.results[0].model)
    return model.parent.name if model.name == "model" else model.name
