"""OUT/check.sqlite: what was found out about files, kept between runs; the clips and verdicts of this run beside it.

Files are remembered by the sha256 of their bytes; a file whose path, size and time of change are the same is not read
again. Nothing grows in memory with the number of clips.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from data_prep.check.decode import Facts
from data_prep.check.look import Look, Seen
from data_prep.clip import CorpusError

FILE = "check.sqlite"
_COMMIT_EVERY = 1.0  # seconds of work that a kill may cost
_WAIT = 60.0  # seconds for another process's lock

_SCHEMA = """
CREATE TABLE IF NOT EXISTS file (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, sha BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts
    (sha BLOB, want TEXT, version TEXT, facts TEXT, PRIMARY KEY (sha, want, version)) WITHOUT ROWID;
CREATE TEMP TABLE clip (number INTEGER PRIMARY KEY, part TEXT, grp TEXT, name TEXT, at TEXT, video TEXT, sha BLOB,
    seconds REAL, tokens INTEGER);
CREATE TEMP TABLE verdict (number INTEGER, kind TEXT, severity TEXT, message TEXT);
CREATE TEMP TABLE held (sha BLOB, name TEXT, shard TEXT);
CREATE INDEX temp.clip_sha ON clip (sha);
CREATE INDEX temp.verdict_number ON verdict (number);
CREATE INDEX temp.held_sha ON held (sha);
CREATE INDEX temp.held_name ON held (name);
"""


class Memory:
    """Facts by content."""

    def __init__(self, base: sqlite3.Connection, version: str) -> None:
        self.base, self.version = base, version

    @classmethod
    def reading(cls, path: Path, version: str) -> Self:
        """Only for looking up, as workers do."""
        return cls(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_WAIT), version)

    def facts(self, sha: bytes, want: str) -> Facts | None:
        """What is known about these bytes, or None."""
        row = self.base.execute(
            "SELECT facts FROM facts WHERE sha = ? AND want = ? AND version = ?", (sha, want, self.version)
        ).fetchone()
        return Facts(**json.loads(row[0])) if row else None


class Results(Memory):
    """The whole base, for the process that writes it. `version` stands for all that facts depend on but the bytes."""

    def __init__(self, path: Path, version: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            base = sqlite3.connect(path, timeout=_WAIT)
            base.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise CorpusError(f"{path}: cannot be used ({error}); remove it, or choose another --out") from error
        super().__init__(base, version)
        self.path = path
        self._due = time.monotonic() + _COMMIT_EVERY

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What was found stays, whatever ended the run.
        self.base.commit()
        self.base.close()

    def remembered(self, look: Look) -> tuple[bytes, Facts] | None:
        """Hash and facts of a file that is unchanged by path, size and time; None where it must be looked at."""
        try:
            now = os.stat(look.path)
        except OSError:
            return None
        row = self.base.execute(
            "SELECT size, mtime_ns, sha FROM file WHERE path = ?", (os.fsencode(look.path.absolute()),)
        ).fetchone()
        if row is None or row[:2] != (now.st_size, now.st_mtime_ns):
            return None
        facts = self.facts(row[2], look.want) if look.want else Facts()
        return None if facts is None else (row[2], facts)

    def remember(self, look: Look, seen: Seen) -> None:
        """Keep what a look found; a file that could not be read is looked at again next time."""
        if not seen.sha:
            return
        at = (os.fsencode(look.path.absolute()), seen.size, seen.mtime_ns, seen.sha)
        self.base.execute("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)", at)
        if look.want:
            found = (seen.sha, look.want, self.version, json.dumps(asdict(seen.facts)))
            self.base.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?)", found)
        if time.monotonic() > self._due:
            self.base.commit()
            self._due = time.monotonic() + _COMMIT_EVERY

    def add(self, table: str, *fields: Any) -> None:
        """A row of this run: of `clip`, `verdict` or `held`."""
        self.base.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(fields))})", tuple(map(_plain, fields)))

    def rows(self, query: str, values: Iterable[Any] = ()) -> Iterator[tuple]:
        """Rows of a query, one at a time."""
        return self.base.execute(query, tuple(values))

    def one(self, query: str, values: Iterable[Any] = ()) -> Any:
        """The only field of a query's only row."""
        return self.base.execute(query, tuple(values)).fetchone()[0]


def _plain(field: Any) -> Any:
    """Text without lone surrogates, which neither SQLite nor JSON in UTF-8 takes."""
    return field.encode("utf-8", "replace").decode() if isinstance(field, str) else field
