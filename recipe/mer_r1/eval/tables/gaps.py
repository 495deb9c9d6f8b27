"""Fast less slow thinking, corpus by corpus (the paper's Figures 3 and 8), in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from recipe.mer_r1.eval.corpora import TITLES
from recipe.mer_r1.eval.results import Metric
from recipe.mer_r1.eval.tables.entry import Entry
from recipe.mer_r1.eval.tables.layout import number

_PAIRS = ("categories", "truth", "margin")


def markdown(entries: Sequence[Entry]) -> str:
    """Differences of scores, and both modes' categories and confidences, of the entries that have gaps."""
    heads = ["ΔR", "ΔP", "ΔEW F", *(f"{name}, slow → fast" for name in _PAIRS), "retained hits"]
    text = ["### Fast − slow thinking", ""]
    text += [f"| model | corpus | {' | '.join(heads)} |", "|---|---|" + "--:|" * len(heads)]
    for entry in entries:
        cells = [_signed(entry.folder.gaps.get(key)) for key in ("R", "P", "F")]
        cells += [_pair(entry, key) for key in _PAIRS]
        cells.append(_share(entry.folder.retained_hit))
        text.append(f"| {entry.row} | {TITLES.get(entry.corpus, entry.corpus)} | {' | '.join(cells)} |")
    return "\n".join(
        [
            *text,
            "",
            "Δ (fast − slow) and retained hits in percent; categories per answer and wheel; truth (confidence of the "
            "true categories) and margin (Eq. 2) in nats. In brackets: 95 % bootstrap intervals over clips, slow and "
            "fast paired.",
        ]
    )


def _pair(entry: Entry, key: str) -> str:
    values = [entry.folder.mode(mode).metrics.get(key) for mode in ("slow", "fast")]
    if None in values:
        return "–"
    return " → ".join(number(metric.value) for metric in values)


def _signed(gap: Metric | None) -> str:
    if gap is None or gap.value is None:
        return "–"
    interval = "" if gap.low is None or gap.high is None else f" [{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]"
    return f"{100 * gap.value:+.2f}{interval}"


def _share(metric: Metric | None) -> str:
    if metric is None or metric.value is None:
        return "–"
    low, high = metric.low, metric.high
    interval = "" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{100 * metric.value:.1f}{interval}"
