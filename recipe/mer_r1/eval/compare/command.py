"""Compare two evaluations of the same clips: is one model, or one form of thinking, better beyond chance?

A side is [NAME=]DIR[:MODE]. DIR is the --out folder of `main_eval run`, or the folder of one corpus in it. Without
:MODE all modes that both have are compared; with it also two forms of one model: DIR:fast DIR:slow. Every difference
is first − second, paired clip by clip, with a 95 % bootstrap interval over clips. The verdict is read from the corpus's
own metric (EW F, HIT, WAF or CoT); of several corpora, from the mean over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from recipe.mer_r1.eval.compare.differences import DRAWS, Comparison, compare
from recipe.mer_r1.eval.compare.figure import figure
from recipe.mer_r1.eval.compare.sides import Side, pairs, read_side
from recipe.mer_r1.eval.compare.wording import as_text, table, verdict
from recipe.mer_r1.eval.figures.panels import draw
from recipe.mer_r1.eval.score import BuiltinWheelsOption, RuleSet, WheelsOption, check_wheels_named_once, load_wheels
from recipe.mer_r1.files.provenance import git_state, versions
from recipe.mer_r1.files.whole import write_whole

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class Result(BaseModel):
    """compare.json: scores and differences in 0..1, first − second."""

    first: str
    second: str
    folders: tuple[str, str]
    weights_sha256: tuple[str, str]
    verdicts: list[str]
    comparisons: list[Comparison]
    only_in_one: list[str]
    wheels: dict[str, str]
    rules: str
    draws: int
    seed: int
    git: str | None
    versions: dict[str, str]


@app.command(help=__doc__)
def command(
    first: Annotated[str, typer.Argument(metavar="[NAME=]DIR[:MODE]", help="an evaluation")],
    second: Annotated[str, typer.Argument(metavar="[NAME=]DIR[:MODE]", help="the one that it is compared with")],
    out: Annotated[Path, typer.Option(help="folder for compare.json, compare.png and compare.svg")] = (
        Path("outputs/compare")
    ),
    wheels: WheelsOption = None,
    builtin_wheels: BuiltinWheelsOption = False,
    rules: Annotated[RuleSet | None, typer.Option(help="undefined scores are NaN (mer2025) or 0 (mer2026)")] = None,
    bootstrap: Annotated[int, typer.Option(min=1, help="number of resamplings")] = DRAWS,
    seed: Annotated[int, typer.Option(help="seed of the resampling")] = 0,
) -> None:
    """Exit code 2: the input is wrong."""
    try:
        check_wheels_named_once(wheels, builtin_wheels)
        known = load_wheels(wheels, rules)
        named = builtin_wheels or wheels is not None
        sides = [read_side(text, known, wheels_named=named) for text in (first, second)]
        found = [compare(parts, known, draws=bootstrap, seed=seed) for parts in pairs(*sides).values()]
        facts = {"wheels": known.identity, "rules": known.rules, "draws": bootstrap, "seed": seed}
        result = as_result(sides, found, facts)
        _write(out, result)
    except (ValueError, OSError) as error:  # InputError and WheelError are ValueErrors
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(as_screen(result))
    typer.echo(f"\n{out / 'compare.json'}, {out / 'compare.png'}, {out / 'compare.svg'}")


def as_result(sides: Sequence[Side], found: Sequence[Comparison], facts: dict[str, Any]) -> Result:
    """All that is written."""
    first, second = sides
    names = first.name, second.name
    if first.name == second.name and first.folder.resolve() != second.folder.resolve():
        names = f"{first.name}, {first.folder}", f"{second.name}, {second.folder}"
    weights = [next(iter(side.answers.values())).settings.weights_sha256 for side in sides]
    return Result(
        first=names[0],
        second=names[1],
        folders=(str(first.folder), str(second.folder)),
        weights_sha256=(weights[0], weights[1]),
        verdicts=[verdict(one, *names) for one in found],
        comparisons=list(found),
        only_in_one=sorted(first.answers.keys() ^ second.answers.keys()),
        git=git_state(),
        versions=versions("mer-r1", "numpy"),
        **facts,
    )


def as_screen(result: Result) -> str:
    """The verdicts, then the numbers."""
    parts = list(result.verdicts)
    for one in result.comparisons:
        parts += ["", as_text(table(one, result.first, result.second))]
    parts += [
        "",
        "Scores in percent. Intervals: bootstrap over clips, both sides paired; they do not cover training with",
    ]
    parts += [f"another seed. Wheels {result.wheels['name']} {result.wheels['version']}, rules {result.rules}."]
    if result.only_in_one:
        parts.append(f"Only one side has {', '.join(result.only_in_one)}: left out.")
    return "\n".join(parts)


def _write(out: Path, result: Result) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "compare.json", result.model_dump_json(indent=1).encode() + b"\n")
    paths = [out / f"compare{suffix}" for suffix in (".png", ".svg")]
    for path in paths:
        path.unlink(missing_ok=True)
    if picture := figure(result.comparisons, result.first, result.second):
        draw(picture, paths)
