"""Show the paper's kinds of cases (Appendix E) in the answers of two models, as one HTML page.

A case is a clip where slow thinking of MER_R1 keeps an emotion that the baseline's slow thinking drops, leaves out a
wrong emotion of the baseline's fast thinking, or finds an emotion that the baseline's fast thinking misses.
`main_eval run` wrote both folders, for the same clips and with slow and fast answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recipe.mer_r1.eval.cases.inputs import Comparison, compare, read_rows, same_corpus
from recipe.mer_r1.eval.cases.kinds import KINDS, find
from recipe.mer_r1.eval.cases.page import Section, Shown, page
from recipe.mer_r1.eval.clip_pictures import picture
from recipe.mer_r1.eval.score import BuiltinWheelsOption, WheelsOption, check_wheels_named_once, load_wheels
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.files.named import split_name
from recipe.mer_r1.files.whole import write_whole
from recipe.mer_r1.method.wheel import EmotionWheels

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

_FPS, _FRAMES, _SIDE = 2.0, 4, 400
"""Of a clip's strip: frames a second at least where it is short, number at most, pixels of a frame's longest side."""


@app.command(help=__doc__)
def cases(
    baseline: Annotated[
        str,
        typer.Argument(
            metavar="[NAME=]BASELINE_DIR", help="--out folder of `main_eval run` of the baseline, or a corpus in it"
        ),
    ],
    mer_r1: Annotated[str, typer.Argument(metavar="[NAME=]MER_R1_DIR", help="the same of the model to show")],
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="file for the page")],
    corpus: Annotated[
        str | None, typer.Option(metavar="NAME", help="which corpus, where the folders have several: its folder's name")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="largest number of cases of each kind")] = 3,
    wheels: WheelsOption = None,
    builtin_wheels: BuiltinWheelsOption = False,
    shard: Annotated[Path | None, typer.Option(help="the shard that was answered, if it was moved since")] = None,
    media_root: Annotated[
        Path | None, typer.Option(help="folder that the shard's relative paths start from; default: the baseline's")
    ] = None,
) -> None:
    """Exit code 2: the input is wrong."""
    try:
        check_wheels_named_once(wheels, builtin_wheels)
        if out.is_dir():
            raise InputError(f"--out {out}: is a folder; give a file, such as {out / 'cases.html'}")
        (first, baseline_dir), (second, mer_r1_dir) = _named(baseline, "Baseline"), _named(mer_r1, "MER-R1")
        baseline_dir, mer_r1_dir = same_corpus(baseline_dir, mer_r1_dir, corpus)
        if first == second:
            raise InputError(f"both models have the name {first!r}; give them different names (NAME=DIR)")
        table = load_wheels(wheels, None)
        named = builtin_wheels or wheels is not None
        comparison = compare(baseline_dir, mer_r1_dir, table, wheels_named=named)
        sections = look(comparison, table)
        chosen = [case.clip for section in sections for case in section.cases[:count]]
        settings = comparison.settings
        rows = read_rows(chosen, shard or settings.shard, media_root or settings.media_root)
        pictures = {index: picture(row, _FPS, _FRAMES, _SIDE) for index, row in rows.items()}
        shown = Shown(comparison, (first, second), table, sections, count, rows, pictures)
        write_whole(out, page(shown).encode())
    except (ValueError, OSError) as error:  # InputError, WheelError and ShardError are ValueErrors
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    for section in sections:
        found, shown_here = len(section.cases), min(count, len(section.cases))
        typer.echo(
            f"{section.kind.title:30} {found:5} of {len(comparison.clips)} clips, {shown_here} shown "
            f"({section.exchanged} with the models exchanged)"
        )
    if missing := [each.missing for each in pictures.values() if each.missing]:
        typer.echo(f"{len(missing)} of {len(pictures)} clips have no picture on the page: {missing[0]}", err=True)
    typer.echo(f"page: {out}")


def look(comparison: Comparison, wheels: EmotionWheels) -> list[Section]:
    """All cases of all kinds."""
    exchanged = [clip.exchanged() for clip in comparison.clips]
    return [Section(kind, find(kind, comparison.clips, wheels), len(find(kind, exchanged, wheels))) for kind in KINDS]


def _named(text: str, default: str) -> tuple[str, Path]:
    name, place = split_name(text)
    return name or default, Path(place)
