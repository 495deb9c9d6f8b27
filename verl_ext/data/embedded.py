"""Clips inside a parquet shard: rows hold references to them, short texts that any process can follow.

A reference, ``shard:/abs/rl.parquet?column=videos&row=3&item=0#train/video/x.mp4``, travels where a path does (arrow
columns, chat messages, Ray, TransferQueue); whoever decodes the clip reads its row group and nothing else.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from verl_ext.data.source import ClipBytes, MediaError

SCHEME = "shard:"
_OPEN_COLUMNS = 32


@dataclass(frozen=True)
class EmbeddedClip:
    """Where a clip's bytes are: the `item`-th of a row's list in a column of a shard.

    Attributes:
        shard: absolute path.
        column: `videos` or `audios`.
        row: of the file, from 0.
        item: in the row's list, from 0.
        name: the clip's own path, for messages and as a hint at its format.
    """

    shard: str
    column: str
    row: int
    item: int
    name: str

    def reference(self) -> str:
        """As text; :meth:`parse` is the way back."""
        query = urlencode({"column": self.column, "row": self.row, "item": self.item})
        return f"{SCHEME}{quote(self.shard)}?{query}#{quote(self.name)}"

    @classmethod
    def parse(cls, source: object) -> EmbeddedClip | None:
        """The reference that `source` is; None for a path or bytes."""
        if not isinstance(source, str) or not source.startswith(SCHEME):
            return None
        parts = urlsplit(source)
        query = parse_qs(parts.query)
        row, item = int(query["row"][0]), int(query["item"][0])
        return cls(unquote(parts.path), query["column"][0], row, item, unquote(parts.fragment))

    def __str__(self) -> str:
        return f"{self.shard} row {self.row} `{self.column}` ({self.name})"

    def read(self) -> ClipBytes:
        """The clip.

        Raises:
            MediaError: the shard is gone, was written anew with fewer rows, or holds no bytes here.
        """
        way_out = "Make the shard again (python -m data_prep), or correct its path."
        try:
            items = _files.row(self)
            data = items[self.item]["bytes"]
        except (OSError, pa.ArrowException, IndexError, KeyError, TypeError) as error:
            raise MediaError(f"cannot read the clip of {self}: {error}. {way_out}") from error
        if not data:
            raise MediaError(f"the clip of {self} has no bytes. {way_out}")
        return ClipBytes(f"{self.shard} row {self.row}: {self.name}", data)


class _Column:
    """A media column of an open shard."""

    def __init__(self, shard: str, column: str) -> None:
        self._file = pq.ParquetFile(shard)  # not mapped: a file that is cut short would end the process
        self._column = column
        groups = range(self._file.metadata.num_row_groups)
        self._ends = list(accumulate(self._file.metadata.row_group(group).num_rows for group in groups))

    def place(self, row: int) -> tuple[int, int]:
        """The row group that holds a row, and the row's number in it."""
        group = bisect_right(self._ends, row)
        if group == len(self._ends):
            raise IndexError(f"the file has {self._ends[-1] if self._ends else 0} rows")
        return group, row - (self._ends[group - 1] if group else 0)

    def group(self, number: int) -> pa.ChunkedArray:
        """A row group's lists of clips."""
        # No threads: the process may be a data loader's fork.
        return self._file.read_row_group(number, columns=[self._column], use_threads=False)[self._column]


class _Files:
    """The shards opened last, as they are now: one that was written anew is opened anew.

    The row groups read last, one of each column, are kept: rows in order cost one reading a group.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._columns: OrderedDict[tuple, _Column] = OrderedDict()
        self._groups: dict[str, tuple[tuple, pa.ChunkedArray]] = {}

    def row(self, clip: EmbeddedClip) -> list[dict[str, object]]:
        """A row's list in the clip's column."""
        with self._lock:
            state = os.stat(clip.shard)
            key = (clip.shard, clip.column, state.st_size, state.st_mtime_ns)
            if key not in self._columns:
                self._columns[key] = _Column(clip.shard, clip.column)
                while len(self._columns) > _OPEN_COLUMNS:
                    self._columns.popitem(last=False)
            self._columns.move_to_end(key)
            group, at = self._columns[key].place(clip.row)
            if self._groups.get(clip.column, (None,))[0] != (key, group):
                self._groups.pop(clip.column, None)  # two groups need not fit in memory
                self._groups[clip.column] = ((key, group), self._columns[key].group(group))
            return self._groups[clip.column][1][at].as_py()


_files = _Files()
# A lock that another thread holds at the moment of a fork would never be free in the child.
os.register_at_fork(after_in_child=_files.__init__)


def references(path: str | Path, column: str, names: list[list[str | None] | None]) -> list[list[str] | None]:
    """The references of a column, from the clips' own paths by row; one without a path is called by its place."""
    shard = os.path.abspath(path)
    return [
        row
        and [EmbeddedClip(shard, column, at, item, name or f"{at}-{item}").reference() for item, name in enumerate(row)]
        for at, row in enumerate(names)
    ]
