"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

PART = ".part"
"""Suffix of a file that is being written."""


def write_whole(path: Path, data: bytes) -> None:
    """Write by rename: the file is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
    part.write_bytes(data)
    os.replace(part, path)
