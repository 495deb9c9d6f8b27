"""A table of ours and the paper's rows, in Markdown and CSV, and which of the paper's numbers have one of ours."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recipe.mer_r1.eval.paper import PaperTable
from recipe.mer_r1.eval.results import Metric

Ends = tuple[float, float]
_MARK = "\\*"  # an asterisk, which Markdown is not to take for emphasis

INTERVALS = (
    "In brackets: 95 % bootstrap intervals over clips. Two intervals can overlap although the difference is certain: "
    "`main_eval compare` pairs the clips."
)


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
        intervals: column → 95 % bootstrap interval over clips, in percent; none for the paper's rows.
    """

    labels: tuple[str, ...]
    cells: Mapping[str, float | None]
    partial: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    intervals: Mapping[str, Ends] = field(default_factory=dict)

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
        cells = [_cell(line, column, table.decimals) for column in table.columns]
        text.append(f"| {' | '.join([*line.labels, *cells])} |")
    if any(line.partial for line in table.lines):
        text += ["", f"{_MARK} only a part of the clips; not in a mean."]
    if any(line.intervals for line in table.lines):
        text += ["", INTERVALS]
    text += _notes(table.lines)
    if table.coverage:
        text += ["", "The paper's rows that this project can train:", "", *(f"- {line}" for line in table.coverage)]
    return "\n".join(text)


def _cell(line: Line, column: str, decimals: int) -> str:
    text = number(line.cells[column], decimals) + _MARK * (column in line.partial)
    ends = line.intervals.get(column)
    return text if ends is None else f"{text} [{number(ends[0], decimals)}, {number(ends[1], decimals)}]"


def percent_ends(metric: Metric | None) -> Ends | None:
    """The interval of a metric of 0..1 in percent."""
    if metric is None or metric.low is None or metric.high is None:
        return None
    return 100 * metric.low, 100 * metric.high


def mean_ends(mean: float | None, cells: Sequence[tuple[float, Ends | None]]) -> Ends | None:
    """The interval of a mean over corpora: its corpora have other clips, so the distances to their ends add up as the
    standard errors of independent numbers do. None without a mean, or where a corpus has no interval.
    """
    if mean is None or any(ends is None for _, ends in cells):
        return None
    below = math.hypot(*(value - ends[0] for value, ends in cells if ends)) / len(cells)
    above = math.hypot(*(ends[1] - value for value, ends in cells if ends)) / len(cells)
    return mean - below, mean + above


def known(intervals: Mapping[str, Ends | None]) -> dict[str, Ends]:
    """Without the columns that have none."""
    return {column: ends for column, ends in intervals.items() if ends is not None}


def _notes(found: Sequence[Line]) -> list[str]:
    """Each note of a row once, with the modes that it holds for."""
    modes: dict[tuple[str, str], dict[str, None]] = {}
    for line in found:
        for note in line.notes:
            modes.setdefault((line.labels[0], note), {})[line.labels[1]] = None
    return ["", *(f"- {name} ({', '.join(of)}): {note}" for (name, note), of in modes.items())] if modes else []


def as_csv(table: Table) -> str:
    """The table as CSV with full precision, empty where there is no number.

    `COLUMN_low` and `COLUMN_high` are the ends of a number's interval. The column `partial` names the columns whose
    number is of a part of the clips.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    ends = [f"{column}_{end}" for column in table.columns for end in ("low", "high")]
    writer.writerow([*table.heads, *table.columns, "partial", *ends])
    for line in table.lines:
        cells = (line.cells[column] for column in table.columns)
        partial = " ".join(column for column in table.columns if column in line.partial)
        bounds = (end for column in table.columns for end in line.intervals.get(column, ("", "")))
        writer.writerow([*line.labels, *cells, partial, *bounds])
    return stream.getvalue()


def number(value: float | None, decimals: int = 2) -> str:
    """A cell's text."""
    return "–" if value is None else f"{value:.{decimals}f}"
