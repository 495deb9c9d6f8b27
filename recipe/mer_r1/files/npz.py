"""npz files of others, with the errors of this room; how they are read without trust: `method.wheels.plain_npz`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.method.wheels import plain_npz


def read_npz(path: Path) -> dict[str, Any]:
    """All members of an npz file: arrays, or the object a 0-d object array holds (MERBench keeps dicts so).

    Raises InputError where the file can't be read, and for a pickle that holds anything but plain data.
    """
    try:
        return plain_npz.read_npz(path)
    except plain_npz.NpzError as error:
        raise InputError(str(error)) from error
