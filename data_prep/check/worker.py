"""What a worker process does with a file: hash it, and decode it unless these bytes were decoded before."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
from pathlib import Path

from data_prep.check.decode import Facts, Inspect
from data_prep.check.look import Look, Seen
from data_prep.check.results import Memory

_memory: Memory
_inspect: Inspect
_rate: int


def start(base: Path, version: str, inspect: Inspect, rate: int) -> None:
    """Set a new worker process up; Ctrl-C is its parent's business."""
    global _memory, _inspect, _rate
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _memory, _inspect, _rate = Memory.reading(base, version), inspect, rate


def work(looks: tuple[Look, ...]) -> list[Seen]:
    """Look at a clip's files, in order."""
    return [_look(look) for look in looks]


def _look(look: Look) -> Seen:
    try:
        before = os.stat(look.path)
        if not stat.S_ISREG(before.st_mode):
            return Seen(0, 0, b"", Facts("unreadable", "a pipe or device, not a regular file"), False)
        with look.path.open("rb") as file:
            sha = hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        return Seen(0, 0, b"", Facts("unreadable", error.strerror or str(error)), False)
    known = Facts() if not look.want else _memory.facts(sha, look.want)
    facts = known or _inspect(look.path, look.want, _rate)
    return Seen(before.st_size, before.st_mtime_ns, sha, facts, known is None)
