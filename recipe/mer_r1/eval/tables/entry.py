"""A folder's results under the name of its row, and which of them may stand in one report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

from recipe.mer_r1.eval.corpora import COLUMNS
from recipe.mer_r1.eval.results import FolderResults, why_not_comparable, why_scored_apart
from recipe.mer_r1.files.errors import InputError


@dataclass(frozen=True)
class Entry:
    """A folder's results under the name of its row."""

    row: str
    folder: FolderResults

    @property
    def corpus(self) -> str:
        """What all modes of the folder are of."""
        return self.folder.results[0].corpus


def check(entries: Sequence[Entry]) -> None:
    """Refuse what a reader would compare wrongly.

    Raises:
        InputError: two folders of one row and corpus; cells of a row of other weights or settings; cells of a column of
            other clips, prompts or settings; anywhere, sentiments of other mappers or verdicts of other judges, since
            means are made across columns. All reasons are named.
    """
    faults = [fault for one, other in combinations(entries, 2) for fault in _faults(one, other)]
    if faults:
        raise InputError("these results are not comparable:\n  " + "\n  ".join(sorted(set(faults))))


def _faults(one: Entry, other: Entry) -> list[str]:
    same_row, same_corpus = one.row == other.row, one.corpus == other.corpus
    if same_row and same_corpus:
        return [f"{one.row} on {one.corpus}: given twice"]
    where = f"{one.row} on {one.corpus} and {other.row} on {other.corpus}"
    faults = []
    for here, there in product(one.folder.results, other.folder.results):
        if here.mode != there.mode:
            modes = f"{here.mode} and {there.mode}"
            faults += [f"{where}, {modes}: {reason}" for reason in why_scored_apart(here, there)]
            continue
        reasons = why_not_comparable(here, there, same_clips=same_corpus)
        if same_row and here.weights_sha256 != there.weights_sha256:
            reasons.append(f"weights: {here.model} and {there.model} differ")
        if same_row and here.form != there.form:
            reasons.append(f"form: {here.form} and {there.form}")
        faults += [f"{where}, {here.mode}: {reason}" for reason in reasons]
    return faults


def corpora_of(entries: Sequence[Entry]) -> list[str]:
    """The benchmark's nine corpora, then any other, in the order of the columns."""
    return [*COLUMNS, *sorted({entry.corpus for entry in entries} - COLUMNS.keys())]


def by_corpus(entries: Sequence[Entry]) -> list[Entry]:
    """In the order of the columns, so that rows of one corpus stand together; else as given."""
    order = corpora_of(entries)
    return sorted(entries, key=lambda entry: order.index(entry.corpus))
