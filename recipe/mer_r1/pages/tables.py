"""What the tables of several pages and screens share."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table; the first row is the header."""
    header, *rest = rows
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rest)]


def percent(value: float | None) -> str:
    """A share of 0..1 in percent with two decimals; a dash for None."""
    return "–" if value is None else f"{100 * value:.2f}"
