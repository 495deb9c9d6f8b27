"""CSV files of a corpus, read in pieces: memory does not grow with their length.

Look-ups by name go through a temporary SQLite file, for the same reason.
"""

from __future__ import annotations

import sqlite3
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data_prep.clip import CorpusError
from data_prep.places import Root

_ROWS = 5_000  # read at a time
LONGEST_FIELD = 1 << 20
"""Bytes of a line, characters of a field; the longest reason paragraphs have some thousand."""


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(data row from 1, the fields of `columns`), blanks kept; bytes that are not UTF-8 come as lone surrogates.

    Raises CorpusError: missing file, missing column, no CSV, a field over `LONGEST_FIELD`.
    """
    _check_lines(path)
    number = 0
    try:
        # Strings as they are: a subtitle "None" or "NA" is speech, not a missing value.
        with (
            warnings.catch_warnings(action="error", category=pd.errors.ParserWarning),
            pd.read_csv(
                path,
                dtype=object,  # pandas' own strings take no lone surrogates
                keep_default_na=False,
                encoding="utf-8-sig",
                encoding_errors="surrogateescape",
                chunksize=_ROWS,
            ) as pieces,
        ):
            for piece in pieces:
                _check_columns(path, piece, columns, first=number == 0)
                for fields in zip(*(piece[column] for column in columns), strict=True):
                    number += 1
                    if max(map(len, fields)) > LONGEST_FIELD:
                        raise CorpusError(f"{path}: row {number}: a field of over {LONGEST_FIELD} characters; mend it")
                    yield number, fields
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning) as error:
        raise CorpusError(f"{path}: not a CSV file ({str(error).strip()}); quote texts that hold commas") from error


def _check_lines(path: Path) -> None:
    """No line may be longer than a field; looked at before a parser holds it in memory."""
    if not path.is_file():
        raise CorpusError(f"{path}: missing; see docs/corpora.md for the corpus's layout")
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_FIELD + 1):
            number += 1
            if len(line) > LONGEST_FIELD:
                raise CorpusError(f"{path}: line {number} is longer than {LONGEST_FIELD} bytes; mend or remove it")


def _check_columns(path: Path, piece: pd.DataFrame, columns: Sequence[str], *, first: bool) -> None:
    if first and not isinstance(piece.index, pd.RangeIndex):
        # pandas takes what is too much in the first row for row labels, and every column moves by one.
        raise CorpusError(
            f"{path}: row 1: more fields than the header's {len(piece.columns)} columns {list(piece.columns)}; "
            'quote texts that hold commas: "He smiles, and laughs"'
        )
    if absent := [column for column in columns if column not in piece]:
        raise CorpusError(f"{path}: no column {absent[0]!r}; found {list(piece.columns)}; mend the header line")


def not_utf8(text: str) -> bool:
    """Whether the text held bytes that are not UTF-8."""
    return any("\udc80" <= sign <= "\udcff" for sign in text)


@dataclass(frozen=True)
class TextTable:
    """A CSV with a text a clip, e.g. subtitles."""

    file: str
    column: str
    key: str = "name"

    def at(self, root: Root) -> Texts:
        """Read it whole into a look-up. Raises CorpusError."""
        return Texts(root.place(self.file), self.key, self.column)


class Texts:
    """Texts by clip name, on disk."""

    def __init__(self, path: Path, key: str, column: str) -> None:
        self.path, self.column = path, column
        self._folder = tempfile.TemporaryDirectory(prefix="data_prep-")
        self._base = sqlite3.connect(Path(self._folder.name) / "texts.sqlite", isolation_level=None)
        self._base.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-8000;"
            "CREATE TABLE text (name TEXT, row INTEGER, text BLOB);"
        )
        self._base.execute("BEGIN")
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
            found.setdefault(text.decode("utf-8", "surrogateescape"), row)
        return [(row, text) for text, row in found.items()]

    def close(self) -> None:
        """Remove the temporary file."""
        self._base.close()
        self._folder.cleanup()


def _bytes(text: str) -> bytes:
    # Bytes, since SQLite refuses text with lone surrogates.
    return text.encode("utf-8", "surrogateescape")


def _tidy(text: str) -> str:
    """One line without blanks at its ends; "nan", as exports write an empty field, is empty."""
    text = " ".join(text.split())
    return "" if text.lower() == "nan" else text
