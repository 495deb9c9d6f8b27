"""The results as a table, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recipe.mer_r1.doctor.outcome import Result

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "bold red")}


def show(results: Sequence[Result], preset: str, console: Console) -> None:
    """A row a check, what is to be done under what was seen, and a verdict."""
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for result in results:
        mark, style = _MARKS[result.status]
        text = Text(result.seen)
        if result.fix:
            text.append(f"\n→ {result.fix}", style="cyan")
        table.add_row(Text(mark, style), Text(result.name, style), text)
    console.print(table)
    counts = {status: sum(result.status == status for result in results) for status in _MARKS}
    verdict = "can run" if runs(results) else "cannot run"
    console.print(
        f"The job {verdict} with preset {preset}: {counts['ok']} ok, {counts['warning']} warnings, "
        f"{counts['failed']} failed.",
        highlight=False,
        markup=False,
    )


def as_json(results: Sequence[Result], preset: str) -> str:
    """``{"preset", "runs", "checks": [{"name", "status", "seen", "fix"}]}``."""
    found = {"preset": preset, "runs": runs(results), "checks": [result.as_dict() for result in results]}
    return json.dumps(found, indent=1, ensure_ascii=False)


def runs(results: Sequence[Result]) -> bool:
    """Whether nothing failed."""
    return all(result.status != "failed" for result in results)
