"""A question to a worker process about a file, and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_prep.check.decode import Facts


@dataclass(frozen=True, slots=True)
class Look:
    """A file and what to look at: "video", "audio", "both", or "" for its hash alone."""

    path: Path
    want: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look found. `sha` is b"" where the file could not be read."""

    size: int
    mtime_ns: int
    sha: bytes
    facts: Facts
    decoded: bool
