"""Results laid out as the paper's Table 1 (official metrics) and Table 3 (unified F1), in Markdown and CSV."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from recipe.mer_r1.eval.corpora import COLUMNS, RECOGNITION, TITLES, official_metric
from recipe.mer_r1.eval.errors import InputError
from recipe.mer_r1.eval.results import FolderResults, Result, why_not_comparable
from recipe.mer_r1.paper import PaperTable


@dataclass(frozen=True)
class Entry:
    """A folder's results under the name of its row."""

    row: str
    folder: FolderResults

    @property
    def corpus(self) -> str:
        """What all modes of the folder are of."""
        return self.folder.results[0].corpus


@dataclass(frozen=True)
class Line:
    """A row of a table, numbers in percent.

    `r_mean` is the mean over the five recognition corpora, `mean` over all nine; None unless each is there whole.
    """

    name: str
    mode: str
    cells: dict[str, float | None]
    r_mean: float | None
    mean: float | None
    notes: tuple[str, ...] = ()


def check(entries: Sequence[Entry]) -> None:
    """Refuse what a reader would compare wrongly.

    Raises:
        InputError: two folders of one row and corpus; cells of a row of other weights or settings; cells of a column of
            other clips, prompts or settings. All reasons are named.
    """
    faults: list[str] = []
    for one, other in combinations(entries, 2):
        same_row, same_corpus = one.row == other.row, one.corpus == other.corpus
        if same_row and same_corpus:
            faults.append(f"{one.row} on {one.corpus}: named twice")
            continue
        where = f"{one.row} on {one.corpus} and {other.row} on {other.corpus}"
        for mode in {result.mode for result in one.folder.results} & {result.mode for result in other.folder.results}:
            here, there = one.folder.mode(mode), other.folder.mode(mode)
            reasons = why_not_comparable(here, there, same_clips=same_corpus) if here and there else []
            if same_row and here and there and here.weights_sha256 != there.weights_sha256:
                reasons.append(f"weights: {here.model} and {there.model} differ")
            faults += [f"{where}, {mode}: {reason}" for reason in reasons]
    if faults:
        raise InputError("these results are not comparable:\n  " + "\n  ".join(sorted(set(faults))))


def corpora_of(entries: Sequence[Entry]) -> list[str]:
    """The columns: the benchmark's nine, then any other."""
    return [*COLUMNS, *sorted({entry.corpus for entry in entries} - COLUMNS.keys())]


def by_corpus(entries: Sequence[Entry]) -> list[Entry]:
    """In the order of the columns, so that rows of one corpus stand together; else as given."""
    order = corpora_of(entries)
    return sorted(entries, key=lambda entry: order.index(entry.corpus))


def lines(entries: Sequence[Entry], *, unified: bool = False) -> list[Line]:
    """A row for every name and mode. A cell without number has its reason among the row's notes.

    Args:
        unified: F1 for the basic emotions too (Table 3), instead of the benchmark's own metrics (Table 1).
    """
    found = []
    for row, mode in _rows(entries):
        results = {
            entry.corpus: result
            for entry in entries
            if entry.row == row and (result := entry.folder.mode(mode)) is not None
        }
        cells = {corpus: _cell(results.get(corpus), unified) for corpus in corpora_of(entries)}
        whole = {corpus: None if corpus in results and results[corpus].partial else cells[corpus] for corpus in cells}
        mean = _mean(whole, tuple(COLUMNS))
        notes = [] if mean is not None else [_missing(whole)]
        notes += [f"{TITLES.get(corpus, corpus)}: {note}" for corpus in results for note in results[corpus].notes]
        notes += [
            f"{TITLES.get(corpus, corpus)}: {result.n} of {result.n_shard} clips only"
            for corpus, result in results.items()
            if result.partial
        ]
        found.append(Line(row, mode, cells, _mean(whole, RECOGNITION), mean, tuple(notes)))
    return found


def _mean(cells: Mapping[str, float | None], corpora: Sequence[str]) -> float | None:
    """None unless all are there."""
    there = [cell for corpus in corpora if (cell := cells[corpus]) is not None]
    return statistics.fmean(there) if len(there) == len(corpora) else None


def _rows(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Row names and modes, in the order given."""
    return list(dict.fromkeys((entry.row, result.mode) for entry in entries for result in entry.folder.results))


def _cell(result: Result | None, unified: bool) -> float | None:
    if result is None:
        return None
    value = result.metrics[official_metric(result.corpus, unified=unified)].value
    return None if value is None else 100 * value


def _missing(cells: Mapping[str, float | None]) -> str:
    absent = [TITLES[corpus] for corpus in COLUMNS if cells[corpus] is None]
    return f"no mean: {', '.join(absent)} missing"


def paper_lines(table: PaperTable, corpora: Sequence[str]) -> list[Line]:
    """The paper's rows in our columns."""
    found = []
    for row in table.rows:
        cells = table.cells(row)
        ours = {corpus: cells[COLUMNS[corpus]] if corpus in COLUMNS else None for corpus in corpora}
        # Of the models of others, nobody says that they think before they answer.
        mode = row.mode or ("slow" if row.experiment else "–")
        found.append(Line(f"paper: {row.name}", mode, ours, cells.get("r_mean"), cells["mean"]))
    return found


def coverage(entries: Sequence[Entry], table: PaperTable) -> list[str]:
    """Which of the paper's numbers that can be trained here have one of ours, row by row; a row's name is its
    experiment's.
    """
    lines_found = []
    for row in table.rows:
        if row.experiment is None:
            continue
        mode = row.mode or "slow"
        results = [entry.folder.mode(mode) for entry in entries if entry.row == row.experiment]
        have = {found.corpus for found in results if found and not found.notes and not found.partial}
        absent = [TITLES[corpus] for corpus in COLUMNS if corpus not in have]
        state = "all nine here" if not absent else f"missing {', '.join(absent)}" if have & {*COLUMNS} else "none here"
        lines_found.append(f"{row.name} ({row.experiment}), {mode}: {state}")
    return lines_found


def markdown(title: str, found: Sequence[Line], corpora: Sequence[str], *, unified: bool = False) -> str:
    """A table; numbers in percent, `–` where there is none, the notes below."""
    metric = {"F": "F1", "hit": "HIT", "waf": "WAF", "cot": "CoT"}
    heads = [f"{TITLES.get(name, name)} {metric[official_metric(name, unified=unified)]}" for name in corpora]
    heads += ["R-mean", "mean"] if unified else ["mean"]
    text = [f"### {title}", "", f"| model | thinking | {' | '.join(heads)} |", "|---|---|" + "--:|" * len(heads)]
    for line in found:
        means = [line.r_mean, line.mean] if unified else [line.mean]
        cells = " | ".join(_number(value) for value in (*(line.cells[name] for name in corpora), *means))
        text.append(f"| {line.name} | {line.mode} | {cells} |")
    return "\n".join([*text, *_notes(found)])


def _notes(found: Sequence[Line]) -> list[str]:
    """Each note of a row once, with the modes that it holds for."""
    modes: dict[tuple[str, str], list[str]] = {}
    for line in found:
        for note in line.notes:
            modes.setdefault((line.name, note), []).append(line.mode)
    return ["", *(f"- {name} ({', '.join(of)}): {note}" for (name, note), of in modes.items())] if modes else []


def gaps_markdown(entries: Sequence[Entry]) -> str:
    """Fast less slow in points, and the mean number of categories (the paper's Figure 3 a and b)."""
    text = ["### Fast less slow thinking", ""]
    text += ["| model | corpus | ΔR | ΔP | ΔF1 | categories slow | categories fast |", "|---|---|--:|--:|--:|--:|--:|"]
    for entry in entries:
        slow, fast = entry.folder.mode("slow"), entry.folder.mode("fast")
        if slow is None or fast is None:
            continue
        gaps = [_gap(entry.folder, key) for key in ("R", "P", "F")]
        counts = [_number(result.metrics["categories"].value) for result in (slow, fast)]
        text.append(f"| {entry.row} | {TITLES.get(entry.corpus, entry.corpus)} | {' | '.join([*gaps, *counts])} |")
    return "\n".join(
        [*text, "", "Points (percent), 95 % bootstrap intervals over clips in brackets; slow and fast paired."]
    )


def _gap(folder: FolderResults, key: str) -> str:
    gap = folder.gaps.get(key)
    if gap is None or gap.value is None:
        return "–"
    interval = "" if gap.low is None or gap.high is None else f" [{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]"
    return f"{100 * gap.value:+.2f}{interval}"


def as_csv(found: Sequence[Line], corpora: Sequence[str]) -> str:
    """The table as CSV with full precision, empty where there is no number."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["model", "thinking", *corpora, "r_mean", "mean"])
    for line in found:
        writer.writerow([line.name, line.mode, *(line.cells[name] for name in corpora), line.r_mean, line.mean])
    return stream.getvalue()


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
