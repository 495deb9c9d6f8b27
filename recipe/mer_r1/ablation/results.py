"""The records of a folder, row by row and seed by seed, and the intervals that are made of them."""

from __future__ import annotations

import math
import statistics as stats
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipe.mer_r1.ablation.record import FINISHED, Record, read_all
from recipe.mer_r1.ablation.state import differing
from recipe.mer_r1.ablation.table import SFT, Table
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.method.bootstrap import Interval, interval

Values = list[float | None]


@dataclass(frozen=True)
class Results:
    """Finished records by row and seed, beside those that failed and the runs that the table asks for.

    Attributes:
        missing: names of runs, ROW-SEED, without a record.
    """

    table: Table
    finished: dict[str, dict[int, Record]]
    failed: list[Record]
    missing: list[str]

    @classmethod
    def load(cls, folder: Path, table: Table) -> Results:
        """All records of a folder.

        Raises:
            InputError: one is no record, two of them are of the same run, or not of the same test clips.
        """
        finished: dict[str, dict[int, Record]] = {}
        failed = []
        for record in read_all(folder):
            if record.state == FINISHED and record.clips and record.metrics:
                if record.seed in finished.setdefault(record.row, {}):
                    raise InputError(f"{folder}: two files are of {record.row} on seed {record.seed}; move one away")
                finished[record.row][record.seed] = record
            else:
                failed.append(record)
        everything = [record for seeds in finished.values() for record in seeds.values()]
        for other in everything[1:]:
            if other.clips.names != everything[0].clips.names:
                names = " and ".join(f"{record.row}-{record.seed}.json" for record in (everything[0], other))
                raise InputError(f"{folder}: {names} are not of the same test clips; make one of them again")
        known = {(record.row, record.seed) for record in [*everything, *failed]}
        missing = [f"{row}-{seed}" for row, seed in table.runs() if (row, seed) not in known]
        return cls(table, finished, failed, missing)

    @property
    def mixed(self) -> dict[str, list[str]]:
        """Rows whose seeds were made with different settings, and keys that differ, with both values."""
        found = {}
        for row in self.rows:
            first, *others = (_without_seed(record.settings) for record in self.records(row))
            if keys := [key for other in others for key in differing(first, other)]:
                found[row] = list(dict.fromkeys(keys))
        return found

    @property
    def rows(self) -> list[str]:
        """Rows with a finished record: SFT models, then the table's rows and controls in its order, then others."""
        starts = sorted(row for row in self.finished if is_start(row))
        ordered = [row for row in self.table.everything if row in self.finished]
        others = sorted(self.finished.keys() - {*starts, *ordered})
        return [*starts, *ordered, *others]

    def records(self, row: str) -> list[Record]:
        """Of a row, by seed."""
        return [record for _, record in sorted(self.finished.get(row, {}).items())]

    def mean(self, row: str, mode: str, score: str = "f1") -> Interval | None:
        """A row's mean over seeds and clips."""
        values = [_values(record, mode, score) for record in self.records(row)]
        kept = [one for one in values if one is not None]
        return interval(kept, level=self.table.level(self.finished[row])) if kept else None

    def gap(self, row: str, sampled: bool = False, score: str = "f1") -> Interval | None:
        """Slow minus fast of the same model, on the same clips."""
        ending = "_sampled" if sampled else ""
        pairs = [
            tuple(_values(one, f"{form}{ending}", score) for form in ("slow", "fast")) for one in self.records(row)
        ]
        return _paired(pairs, self.table.level(self.finished.get(row, {})))

    def difference(self, row: str, other: str, mode: str, score: str = "f1") -> Interval | None:
        """`row` minus `other`, seed by seed (those that both have) and clip by clip."""
        both = sorted(self.finished.get(row, {}).keys() & self.finished.get(other, {}).keys())
        pairs = [tuple(_values(self.finished[name][seed], mode, score) for name in (row, other)) for seed in both]
        return _paired(pairs, self.table.level(both))

    def same_start(self, row: str, other: str) -> bool:
        """Whether the two start from the same SFT models on the seeds that both have."""
        both = self.finished.get(row, {}).keys() & self.finished.get(other, {}).keys()
        return all(start_of(self.finished[row][seed]) == start_of(self.finished[other][seed]) for seed in both)

    def seed_sd(self, mode: str, other: str = "baseline") -> float | None:
        """Typical standard deviation over seeds of a paired difference: root of the mean square over all rows."""
        found = [self.difference(row, other, mode) for row in self.rows if row != other and not is_start(row)]
        squares = [one.seed_sd**2 for one in found if one is not None and one.seed_sd is not None]
        return math.sqrt(stats.fmean(squares)) if squares else None

    def number(self, row: str, of: Callable[[Record], float | None]) -> float | None:
        """Mean over the seeds that have it."""
        values = [value for record in self.records(row) if (value := of(record)) is not None]
        return stats.fmean(values) if values else None

    def curves(self, row: str, name: str) -> Iterator[Values]:
        """A metric by step, for each seed that has it."""
        for record in self.records(row):
            if record.training and name in record.training.curves:
                yield record.training.curves[name]


def is_start(row: str) -> bool:
    """Whether a row is an SFT model."""
    return row == SFT or row.startswith(f"{SFT}_")


def start_of(record: Record) -> Any:
    """The SFT model that a record is of, or starts from: what decided it, and its weights."""
    return record.settings.get("start", record.settings), record.start_sha256


def _without_seed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run or a start; the seed of its corpus stays."""
    start = {key: value for key, value in settings.get("start", settings).items() if key != "seed"}
    return {**settings, "start": start} if "start" in settings else start


def _values(record: Record, mode: str, score: str) -> Values | None:
    return record.clips.forms.get(mode, {}).get(score) if record.clips else None


def _paired(pairs: Sequence[tuple[Values | None, ...]], level: float) -> Interval | None:
    """Of differences, first minus second, where both are there."""
    kept = [
        [None if None in (one, other) else one - other for one, other in zip(*pair, strict=True)]
        for pair in pairs
        if None not in pair
    ]
    return interval(kept, level=level) if kept else None
