"""What a check says on the terminal at its end: tables."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data_prep.check import report
from data_prep.check.results import Results
from data_prep.check.verdicts import KINDS

EXAMPLES = 3
"""Clips named a kind; report.json names all."""
_WIDE = 160  # columns where output goes to a file
_BAR = 40  # signs of the longest bar


def show(results: Results, title: str, max_prompt_length: int | None) -> None:
    """Print what was found."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    table = Table(
        "kind", "", "clips", "meaning", f"up to {EXAMPLES} examples", title=escape(title), title_justify="left"
    )
    for kind, severity, clips in report.counts(results):
        colour = "red" if severity == "drop" else "yellow"
        meaning = escape(KINDS.get(kind, ("", ""))[1])
        table.add_row(kind, f"[{colour}]{severity}[/]", f"{clips:,}", meaning, escape(_examples(results, kind)))
    if table.row_count:
        console.print(table)
    _bars(console, results, "seconds", "length of the clips in seconds", None)
    _bars(console, results, "tokens", "length of the prompts in tokens", max_prompt_length)
    clips = results.one("SELECT count(*) FROM clip")
    dropped, noted = report.clips_with(results, "drop"), report.clips_with(results, "note")
    console.print(f"{clips:,} clips: {dropped:,} to drop, {noted:,} with a note", highlight=False)


def _examples(results: Results, kind: str) -> str:
    query = "SELECT DISTINCT grp, name FROM verdict JOIN clip USING (number) WHERE kind = ? ORDER BY number LIMIT ?"
    return ", ".join(f"{group}/{name}" if group else name for group, name in results.rows(query, (kind, EXAMPLES)))


def _bars(console: Console, results: Results, column: str, title: str, limit: int | None) -> None:
    bars = report.histogram(results, column)
    if not bars:
        return
    spread = ", ".join(f"{name} {value:,.4g}" for name, value in report.quantiles(results, column).items())
    console.print(f"{title}: {spread}", highlight=False)
    most = max(bar.clips for bar in bars)
    for bar in bars:
        line = f"{bar.start:>10,g} – {bar.end:<10,g} {'█' * -(-bar.clips * _BAR // most)} {bar.clips:,}"
        console.print(line, highlight=False)
    if limit is not None:
        over = results.one(f"SELECT count(*) FROM clip WHERE {column} > ?", (limit,))
        console.print(f"over --max-prompt-length {limit}: {over:,} clips would be dropped", highlight=False)
