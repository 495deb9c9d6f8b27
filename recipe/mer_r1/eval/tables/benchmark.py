"""MER-UniBench as in the paper's Table 1 (official metrics) and Table 3 (unified F1)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from recipe.mer_r1.eval.corpora import COLUMNS, RECOGNITION, TITLES, official_metric
from recipe.mer_r1.eval.paper import PaperTable
from recipe.mer_r1.eval.results import Metric, Result
from recipe.mer_r1.eval.tables.entry import Entry, corpora_of
from recipe.mer_r1.eval.tables.layout import (
    Column,
    Line,
    Table,
    coverage,
    known,
    mean_ends,
    paper_lines,
    percent_ends,
)

_METRICS = {"F": "EW F", "hit": "HIT", "waf": "WAF"}
_TITLES = {"table_1": "Official metrics (Table 1)", "table_3": "Unified F1 (Table 3)"}


def table(key: str, entries: Sequence[Entry], paper: PaperTable | None) -> Table:
    """Table 1 or 3.

    Args:
        key: `table_1` or `table_3`.
        entries: none of MME-Emotion.
        paper: None: ours alone.
    """
    unified = key == "table_3"
    columns = {
        name: Column(TITLES.get(name, name), _METRICS[official_metric(name, unified=unified)])
        for name in corpora_of(entries)
    }
    columns |= {"r_mean": Column("R-mean", mean=True)} if unified else {}
    columns |= {"mean": Column("mean", mean=True)}
    ours, theirs, covered = lines(entries, unified=unified), [], []
    if paper:
        names = {name: COLUMNS.get(name, name if column.mean else None) for name, column in columns.items()}
        theirs = paper_lines(paper, names)
        covered = coverage(ours, paper, {name: column for name, column in columns.items() if name in COLUMNS})
    return Table(key, _TITLES[key], ("model", "thinking"), columns, [*ours, *theirs], coverage=covered)


def lines(entries: Sequence[Entry], *, unified: bool = False) -> list[Line]:
    """A row for every name and mode, with cells for the corpora and `r_mean` (the five recognition corpora) and `mean`
    (all nine), each None unless all its corpora are there whole. A cell without number has its reason in the notes.

    Args:
        unified: F1 for the basic emotions too (Table 3), instead of the benchmark's own metrics (Table 1).
    """
    found = []
    for row, mode in dict.fromkeys((entry.row, result.mode) for entry in entries for result in entry.folder.results):
        results = {
            entry.corpus: result
            for entry in entries
            if entry.row == row and (result := entry.folder.mode(mode)) is not None
        }
        cells = {corpus: _cell(results.get(corpus), unified) for corpus in corpora_of(entries)}
        partial = frozenset(corpus for corpus, result in results.items() if result.partial)
        whole = {corpus: None if corpus in partial else cell for corpus, cell in cells.items()}
        means = {"r_mean": mean(whole, RECOGNITION), "mean": mean(whole, tuple(COLUMNS))}
        notes = [] if means["mean"] is not None else [missing(whole)]
        for corpus, result in results.items():
            notes += [f"{TITLES.get(corpus, corpus)}: {note}" for note in (*result.notes, *_part(result))]
        ends = {corpus: percent_ends(_metric(result, unified)) for corpus, result in results.items()}
        ends |= {
            key: mean_ends(means[key], [(whole[corpus] or 0.0, ends.get(corpus)) for corpus in corpora])
            for key, corpora in (("r_mean", RECOGNITION), ("mean", tuple(COLUMNS)))
        }
        found.append(Line((row, mode), cells | means, partial, tuple(notes), known(ends)))
    return found


def mean(cells: Mapping[str, float | None], corpora: Sequence[str]) -> float | None:
    """None unless all are there."""
    there = [cell for corpus in corpora if (cell := cells[corpus]) is not None]
    return statistics.fmean(there) if len(there) == len(corpora) else None


def _cell(result: Result | None, unified: bool) -> float | None:
    if result is None:
        return None
    value = _metric(result, unified).value
    return None if value is None else 100 * value


def _metric(result: Result, unified: bool) -> Metric:
    return result.metrics[official_metric(result.corpus, unified=unified)]


def _part(result: Result) -> list[str]:
    return [f"only {result.n} of {result.n_shard} clips"] if result.partial else []


def missing(cells: Mapping[str, float | None]) -> str:
    """Why there is no mean over all nine."""
    absent = [TITLES[corpus] for corpus in COLUMNS if cells[corpus] is None]
    return f"no mean: {', '.join(absent)} missing"
