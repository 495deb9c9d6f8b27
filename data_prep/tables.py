"""CSV files of a corpus, read row by row: memory does not grow with their length.

Look-ups by name go through a temporary SQLite file, for the same reason.
"""

from __future__ import annotations

import csv
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from data_prep.clip import CorpusError
from data_prep.places import Root

LONGEST_ROW = 1 << 20
"""Characters of a row; the longest reason paragraphs have some thousand. Python's csv ends fields at 131,072."""


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(data row from 1, the fields of `columns`), blanks kept; bytes that are not UTF-8 come as lone surrogates.

    What a short row lacks is empty. Raises CorpusError: missing file, missing column, a row with more fields than
    columns, a quote that is never closed, a row over `LONGEST_ROW`.
    """
    if not path.is_file():
        raise CorpusError(f"{path}: missing; see docs/corpora.md for the corpus's layout")
    number = 0
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            lines = _Lines(file)
            rows = csv.reader(lines)
            header = [name.strip() for name in next(rows, [])]
            wanted = _positions(path, header, columns)
            for row in rows:
                lines.row_ended()
                if not row or (len(row) == 1 and not row[0].strip()):
                    continue
                number += 1
                if any(row[len(header) :]):
                    raise CorpusError(
                        f"{path}: row {number}: {len(row)} fields for {len(header)} columns {header}; "
                        'put texts that contain commas in quotes: "He smiles, and laughs"'
                    )
                yield number, tuple(row[place] if place < len(row) else "" for place in wanted)
    except (csv.Error, _LinesError) as error:
        raise CorpusError(
            f"{path}: after row {number}: not a CSV file ({error}); fix or remove the next row"
        ) from error


class _LinesError(ValueError):
    """The lines of a file make no CSV."""


class _Lines:
    """A file's lines for csv.reader, which itself knows no limit of a row and takes an open quote for text."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._length, self._at_end = file, 0, False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(LONGEST_ROW + 1)
        self._length += len(line)
        if self._length > LONGEST_ROW:
            raise _LinesError(f"a row has more than {LONGEST_ROW} characters; a quote may be left open")
        if not line:
            self._at_end = True
            raise StopIteration
        return line

    def row_ended(self) -> None:
        """To be called after each row: one that asked for lines beyond the file's end is not whole."""
        if self._at_end:
            raise _LinesError("a quote is left open")
        self._length = 0


def _positions(path: Path, header: list[str], columns: Sequence[str]) -> list[int]:
    for column in columns:
        if header.count(column) != 1:
            found = "no column" if column not in header else "more than one column"
            raise CorpusError(f"{path}: {found} {column!r}; found {header}; fix the header line")
    return [header.index(column) for column in columns]


def not_utf8(text: str) -> bool:
    """Whether the text held bytes that no UTF-8 text has, or what no file can be named by: NUL, lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return "\0" in text


@dataclass(frozen=True)
class TextTable:
    """A CSV with a text a clip, e.g. subtitles."""

    file: str
    column: str
    key: str = "name"
    if_missing: str = ""
    """What to do where the file is not there; default: look at the corpus's layout."""

    def path(self, root: Root) -> Path:
        """The file."""
        return root.place(self.file)

    def at(self, root: Root) -> Texts:
        """Read it whole into a look-up. Raises CorpusError."""
        path = self.path(root)
        if self.if_missing and not path.is_file():
            raise CorpusError(f"{path}: missing; {self.if_missing}")
        return Texts(path, self.key, self.column)


@dataclass(frozen=True)
class UserTable:
    """A CSV with a text a clip that the user names; it may lie outside the corpus's folder."""

    file: str
    column: str
    key: str = "name"

    def path(self, root: Root) -> Path:
        """The file, wherever the corpus is."""
        return Path(self.file)

    def at(self, root: Root) -> Texts:
        """Read it whole into a look-up. Raises CorpusError."""
        return Texts(self.path(root), self.key, self.column)


class Texts:
    """Texts by clip name, on disk."""

    def __init__(self, path: Path, key: str, column: str) -> None:
        self.path, self.column = path, column
        self._base, self._folder = _temporary("CREATE TABLE text (name BLOB, row INTEGER, text BLOB)")
        rows = ((name.strip(), row, _tidy(text)) for row, (name, text) in read_rows(path, (key, column)))
        self._base.executemany(
            "INSERT INTO text VALUES (?, ?, ?)", ((_bytes(name), row, _bytes(text)) for name, row, text in rows)
        )
        self._base.execute("COMMIT")
        self._base.execute("CREATE INDEX names ON text (name)")

    def get(self, name: str) -> list[tuple[int, str]]:
        """(row, text) of that name, in file order; texts that repeat are listed once."""
        found: dict[str, int] = {}
        for row, text in self._base.execute("SELECT row, text FROM text WHERE name = ? ORDER BY row", (_bytes(name),)):
            found.setdefault(text.decode("utf-8", "surrogatepass"), row)
        return [(row, text) for text, row in found.items()]

    def close(self) -> None:
        """Remove the temporary file."""
        self._base.close()
        self._folder.cleanup()


class Names:
    """The names met so far, on disk."""

    def __init__(self) -> None:
        self._base, self._folder = _temporary("CREATE TABLE seen (name BLOB PRIMARY KEY, row INTEGER) WITHOUT ROWID")

    def first(self, name: str, row: int) -> int:
        """The row that had this name first; `row` itself where it is new."""
        found = self._base.execute("SELECT row FROM seen WHERE name = ?", (_bytes(name),)).fetchone()
        if found:
            return found[0]
        self._base.execute("INSERT INTO seen VALUES (?, ?)", (_bytes(name), row))
        return row

    def close(self) -> None:
        """Remove the temporary file."""
        self._base.close()
        self._folder.cleanup()


def _temporary(table: str) -> tuple[sqlite3.Connection, tempfile.TemporaryDirectory[str]]:
    """An empty database in a folder of its own. Nobody keeps it: no journal, no wait for the disk; 2 MB of cache."""
    folder = tempfile.TemporaryDirectory(prefix="data_prep-")
    base = sqlite3.connect(Path(folder.name) / "rows.sqlite", isolation_level=None)
    base.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-2000;")
    base.execute(table)
    base.execute("BEGIN")
    return base, folder


def _bytes(text: str) -> bytes:
    # Bytes, since SQLite refuses text with lone surrogates; JSON may hold any of them.
    return text.encode("utf-8", "surrogatepass")


def _tidy(text: str) -> str:
    """One line without blanks at its ends; "nan", as exports write an empty field, is empty."""
    text = " ".join(text.split())
    return "" if text.lower() == "nan" else text
