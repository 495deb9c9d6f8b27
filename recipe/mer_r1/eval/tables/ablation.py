"""The ablations on MER-UniBench as in the paper's Tables 4 and 5: means by kind of corpus."""

from __future__ import annotations

from collections.abc import Sequence

from recipe.mer_r1.eval.corpora import BASIC, COLUMNS, SENTIMENT
from recipe.mer_r1.eval.paper import PaperTable, load_paper
from recipe.mer_r1.eval.tables import benchmark
from recipe.mer_r1.eval.tables.entry import Entry
from recipe.mer_r1.eval.tables.layout import Column, Ends, Line, Table, coverage, known, mean_ends, paper_lines

KEYS = ("table_4", "table_5")
_TITLES = {"table_4": "Main ablation (Table 4)", "table_5": "Ablation of the confidence calibration (Table 5)"}
_COLUMNS = {
    "fine_f1": Column("Fine-grained", "EW F"),
    "basic_hit": Column("Basic", "HIT"),
    "basic_f1": Column("Basic", "EW F"),
    "sentiment_waf": Column("Sentiment", "WAF"),
    "mean_official": Column("mean, official", mean=True),
    "mean_f1": Column("mean, F1", mean=True),
}


def table(key: str, entries: Sequence[Entry], paper: PaperTable | None) -> Table:
    """Table 4 or 5, with the rows of ours that are of it, and those that are of neither.

    Args:
        key: `table_4` or `table_5`.
        entries: none of MME-Emotion.
        paper: None: ours alone.
    """
    rows = {name: {row.experiment for row in load_paper()[name].rows} for name in KEYS}
    elsewhere = set.union(*rows.values()) - rows[key]
    ours = [line for line in lines(entries) if line.labels[0] not in elsewhere]
    theirs = paper_lines(paper, dict(zip(_COLUMNS, _COLUMNS, strict=True))) if paper else []
    covered = coverage(ours, paper, _COLUMNS) if paper else []
    return Table(key, _TITLES[key], ("model", "thinking"), _COLUMNS, [*ours, *theirs], coverage=covered)


def lines(entries: Sequence[Entry]) -> list[Line]:
    """A row for every name and mode. A mean is None unless all its corpora are there whole."""
    found = []
    both = zip(benchmark.lines(entries), benchmark.lines(entries, unified=True), strict=True)
    for official, unified in both:
        own, f1 = ({corpus: line.whole(corpus) for corpus in COLUMNS} for line in (official, unified))
        cells = {
            "fine_f1": own["ov_merd_plus"],
            "basic_hit": benchmark.mean(own, BASIC),
            "basic_f1": benchmark.mean(f1, BASIC),
            "sentiment_waf": benchmark.mean(own, SENTIMENT),
            "mean_official": official.cells["mean"],
            "mean_f1": unified.cells["mean"],
        }
        ends = {
            "fine_f1": official.intervals.get("ov_merd_plus") if own["ov_merd_plus"] is not None else None,
            "basic_hit": _ends(cells["basic_hit"], official, BASIC),
            "basic_f1": _ends(cells["basic_f1"], unified, BASIC),
            "sentiment_waf": _ends(cells["sentiment_waf"], official, SENTIMENT),
            "mean_official": official.intervals.get("mean"),
            "mean_f1": unified.intervals.get("mean"),
        }
        notes = () if cells["mean_official"] is not None else (benchmark.missing(own),)
        found.append(Line(official.labels, cells, notes=notes, intervals=known(ends)))
    return found


def _ends(mean: float | None, line: Line, corpora: Sequence[str]) -> Ends | None:
    return mean_ends(mean, [(line.cells[corpus] or 0.0, line.intervals.get(corpus)) for corpus in corpora])
