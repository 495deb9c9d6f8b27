"""A table of ours and the paper's rows, in Markdown and CSV, and which of the paper's numbers have one of ours."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recipe.mer_r1.eval.paper import PaperTable

_MARK = "\\*"  # an asterisk, which Markdown is not to take for emphasis


@dataclass(frozen=True)
class Column:
    """`metric` stands behind the title in the head; `mean`: made of other columns."""

    title: str
    metric: str = ""
    mean: bool = False


@dataclass(frozen=True)
class Line:
    """A row of a table.

    Attributes:
        labels: name of the row, mode, and what else the table's heads say.
        cells: column → number in percent, None where there is none.
        partial: columns whose number is of a part of the clips, and therefore in no mean.
        notes: why cells are empty or of a part.
    """

    labels: tuple[str, ...]
    cells: Mapping[str, float | None]
    partial: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def whole(self, column: str) -> float | None:
        """A cell, None where it is of a part."""
        return None if column in self.partial else self.cells[column]


@dataclass(frozen=True)
class Table:
    """A table ready to be written.

    Attributes:
        key: `table_1` … `table_5`.
        heads: of the columns that label a row.
        columns: key → column, in order.
        coverage: the paper's rows that can be trained here, and which of their numbers have one of ours.
    """

    key: str
    title: str
    heads: tuple[str, ...]
    columns: Mapping[str, Column]
    lines: Sequence[Line]
    decimals: int = 2
    coverage: Sequence[str] = field(default=())


def paper_lines(table: PaperTable, names: Mapping[str, str | None], blanks: int = 0) -> list[Line]:
    """The paper's rows in our columns.

    Args:
        names: our column → the paper's; None where the paper has none.
        blanks: labels behind the mode, of which the paper has none.
    """
    found = []
    for row in table.rows:
        cells = table.cells(row)
        # Of the models of others, nobody says that they think before they answer.
        mode = row.mode or ("slow" if row.experiment else "–")
        ours = {column: cells[name] if name else None for column, name in names.items()}
        found.append(Line((f"paper: {row.name}", mode, *["–"] * blanks), ours))
    return found


def coverage(ours: Sequence[Line], table: PaperTable, columns: Mapping[str, Column]) -> list[str]:
    """Which of the paper's numbers that can be trained here have one of ours, row by row; a row's name is its
    experiment's. Columns that the paper lacks are to be left out of `columns`.
    """
    wanted = {key: column for key, column in columns.items() if not column.mean}
    found = []
    for row in table.rows:
        if row.experiment is None:
            continue
        mode = row.mode or "slow"
        line = next((line for line in ours if line.labels[:2] == (row.experiment, mode)), None)
        absent = [column.title for key, column in wanted.items() if line is None or line.whole(key) is None]
        state = "no results" if len(absent) == len(wanted) else f"missing {', '.join(absent)}" if absent else "complete"
        found.append(f"{row.name} ({row.experiment}), {mode}: {state}")
    return found


def markdown(table: Table) -> str:
    """Title and table, `–` where there is no number, a mark where it is of a part of the clips; notes, coverage."""
    heads = [*table.heads, *(f"{column.title} {column.metric}".strip() for column in table.columns.values())]
    text = [f"### {table.title}", "", f"| {' | '.join(heads)} |"]
    text.append("|" + "---|" * len(table.heads) + "--:|" * len(table.columns))
    for line in table.lines:
        cells = [
            number(line.cells[column], table.decimals) + _MARK * (column in line.partial) for column in table.columns
        ]
        text.append(f"| {' | '.join([*line.labels, *cells])} |")
    if any(line.partial for line in table.lines):
        text += ["", f"{_MARK} only a part of the clips; not in a mean."]
    text += _notes(table.lines)
    if table.coverage:
        text += ["", "The paper's rows that this project can train:", "", *(f"- {line}" for line in table.coverage)]
    return "\n".join(text)


def _notes(found: Sequence[Line]) -> list[str]:
    """Each note of a row once, with the modes that it holds for."""
    modes: dict[tuple[str, str], dict[str, None]] = {}
    for line in found:
        for note in line.notes:
            modes.setdefault((line.labels[0], note), {})[line.labels[1]] = None
    return ["", *(f"- {name} ({', '.join(of)}): {note}" for (name, note), of in modes.items())] if modes else []


def as_csv(table: Table) -> str:
    """The table as CSV with full precision, empty where there is no number.

    The last column names those whose number is of a part of the clips.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*table.heads, *table.columns, "partial"])
    for line in table.lines:
        cells = (line.cells[column] for column in table.columns)
        writer.writerow([*line.labels, *cells, " ".join(column for column in table.columns if column in line.partial)])
    return stream.getvalue()


def number(value: float | None, decimals: int = 2) -> str:
    """A cell's text."""
    return "–" if value is None else f"{value:.{decimals}f}"
