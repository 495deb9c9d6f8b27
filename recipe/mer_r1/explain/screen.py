"""A trace in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recipe.mer_r1.explain.trace import Trace
from recipe.mer_r1.explain.wording import (
    SHORT,
    answer_of,
    covered,
    figure,
    formula,
    normalised,
    paths,
    segments,
    uncounted,
    verdict,
    visible,
)

STYLES = {"correct": "bold green", "incorrect": "bold red", "mixed": "bold yellow", "unknown": "bold magenta", "": ""}
_WORD = 18
"""Columns for a word of an answer; longer ones are broken."""


def show(found: Trace, console: Console) -> None:
    """Print everything, from the response to the advantage."""
    _response(found, console)
    _categories(found, console)
    _scores(found, console)
    _calibration(found, console)
    _group(found, console)
    _advantage(found, console)
    console.print()
    console.print(Text(verdict(found), style="yellow" if found.differences else "green"))
    for note in found.notes:
        console.print(Text(visible(note), style="yellow"))


def _response(found: Trace, console: Console) -> None:
    row = found.row
    console.print(Text(f"{row['uid']}", style="bold"), end="")
    console.print(
        Text(f"  response {found.position + 1} of {len(found.group)} to its prompt, step {row.get('step', '?')}")
    )
    subtitle = found.subtitle
    prompt = ("prompt", row["input"].strip()) if subtitle is None else ("subtitle", subtitle)
    console.print(Text.assemble((f"{prompt[0]:9}", "dim"), visible(prompt[1])))
    console.print(Text.assemble(("labels   ", "dim"), visible(", ".join(row["gts"]))))
    console.print()
    console.print(Text.assemble(*((text, STYLES[name]) for text, name in segments(found))))
    legend = [(f"{name}  ", style) for name, style in STYLES.items() if name]
    console.print(Text.assemble(("words: ", "dim"), *legend))


def _categories(found: Trace, console: Console) -> None:
    table = _table("From word to category", ("word", "wheels", "form", "candidate", "category"))
    last = None
    for word, *rest in paths(found):
        table.add_row(Text("" if word == last else word), *map(Text, rest))
        last = word
    _print(table, console, "The answer has no words.")


def _scores(found: Trace, console: Console) -> None:
    table = _table("Recall and precision (Eq. 4)", ("wheel", "true", "answered"), ("R", "P", "F1"))
    for wheel, scores in found.by_wheel.items():
        numbers = [figure(value) for value in (scores.recall, scores.precision, scores.f1)] if scores else ["–"] * 3
        said = Text(", ").join(
            Text(name, style=STYLES["correct" if name in found.truth[wheel] else "incorrect"] if scores else "")
            for name in found.answered(wheel)
        )
        table.add_row(wheel, ", ".join(sorted(found.truth[wheel])) or "– (takes no part)", said, *numbers)
    scores = found.scores
    table.add_section()
    table.add_row("mean", "", "", *map(figure, (scores.recall, scores.precision, scores.f1)), style="bold")
    _print(table, console)
    console.print(f"format {scores.format:g}")


def _calibration(found: Trace, console: Console) -> None:
    if not found.names:
        return
    table = _table(
        "Confidence of each word's category, in nats (Eq. 1, 9, 10)",
        ("word", "wheel", "category", "set"),
        ("slow", "fast", "Δ", "Δ word"),
    )
    last = None
    for reading in found.readings:
        style = STYLES["correct" if reading.correct else "incorrect"]
        table.add_row(
            Text("" if reading.word == last else visible(reading.word)),
            reading.wheel,
            Text(reading.category),
            Text("E⁺" if reading.correct else "E⁻", style=style),
            figure(reading.slow),
            figure(reading.fast),
            figure(reading.gap, signed=True),
            figure(reading.gap_word, signed=True),
        )
        last = reading.word
    _print(table, console, "No word takes part: E⁺ and E⁻ are empty.")
    for note in filter(None, [covered(found), *uncounted(found)]):
        console.print(Text(note, style="dim"))
    summary = _table("Calibration rewards (Eq. 11)", ("",), ("R⁺", "R⁻"))
    for name, suffix in (("by category", ""), ("by word", "_word")):
        summary.add_row(name, *(figure(found.rewards[f"calib_{side}{suffix}"], signed=True) for side in ("pos", "neg")))
    _print(summary, console)
    margin = _table("Margin at the first word, in nats (Eq. 2)", ("",), ("true", "3 likeliest others", "margin"))
    for mode in ("slow", "fast"):
        margin.add_row(mode, *(figure(found.margins[f"{part}_{mode}"]) for part in ("gt", "neg", "margin")))
    _print(margin, console)


def _group(found: Trace, console: Console) -> None:
    names = list(dict.fromkeys(name for share in found.terms for name in share.term.signals))
    table = _table("The group's signals", ("", "answer"), (*(SHORT.get(name, name) for name in names), "file's A"))
    for index, row in enumerate(found.group):
        here = row is found.row
        numbers = [_stored(row["signals"].get(name)) for name in names]
        table.add_row(
            f"{'▸' if here else ' '}{index + 1}",
            Text(answer_of(row["output"]), overflow="ellipsis", no_wrap=True),
            *numbers,
            _stored(row.get("advantage"), signed=True),
            style="bold" if here else "",
        )
    _print(table, console)


def _advantage(found: Trace, console: Console) -> None:
    table = _table(
        f"Advantage of {found.experiment} (Eq. 12)",
        ("term",),
        ("value", "group mean", "std", "normalised", "weight", "adds"),
    )
    for share in found.terms:
        table.add_row(
            formula(share.term),
            figure(share.group[found.position]),
            figure(share.mean),
            figure(share.std),
            normalised(share, found),
            f"{share.term.weight:g}",
            figure(share.contribution, signed=True),
        )
    table.add_section()
    table.add_row("advantage", *[""] * 5, figure(found.advantage, signed=True), style="bold")
    _print(table, console)
    if found.whitened:
        stored = _stored(found.row.get("advantage"), signed=True)
        console.print(f"then whitened over the tokens of the batch: {stored} in the file")


def _table(title: str, texts: Sequence[str], numbers: Sequence[str] = ()) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in texts:
        table.add_column(name, overflow="fold", max_width=_WORD if name in ("word", "answer") else None)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _print(table: Table, console: Console, otherwise: str = "") -> None:
    """A table below its title, which may be wider than the table; other words where it has no rows."""
    title, table.title = str(table.title), None
    console.print()
    console.print(Text(title, style="bold cyan"))
    console.print(table if table.row_count else otherwise)


def _stored(value: float | None, signed: bool = False) -> str:
    return "–" if value is None else figure(value, signed)
