"""What a command line calls `[NAME=]PLACE`: a folder, and the name to show for the folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from recipe.mer_r1.files.errors import InputError


def split_name(text: str) -> tuple[str, str]:
    """Name and place of `[NAME=]PLACE`; the name is "" where none is given. The place begins after the last `=`."""
    name, _, place = text.rpartition("=")
    return name, place


def folders_by_name(texts: Iterable[str], what: str, metavar: str) -> dict[str, Path]:
    """The folders of several `[NAME=]PLACE` by name, which is by default the folder's own name.

    Args:
        what: what a message calls several of them, such as "runs".
        metavar: how one is written, such as "NAME=RUN_DIR".

    Raises:
        InputError: two have the same name.
    """
    found: dict[str, Path] = {}
    for text in texts:
        given, place = split_name(text)
        name = given or Path(place).resolve().name
        if name in found:
            raise InputError(f"two {what} have the name {name}: give them different names with {metavar}")
        found[name] = Path(place)
    return found
