"""The corpora that are known, one module each; `--corpus` takes their names."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_prep.reader import Reader

_SHARED = {"merbench", "mer_challenge"}
NAMES = tuple(sorted(module.name for module in iter_modules(__path__) if module.name not in _SHARED))


def get(name: str) -> Reader:
    """The reader of a corpus. Raises KeyError for a name not in `NAMES`."""
    if name not in NAMES:
        raise KeyError(name)
    return import_module(f"data_prep.readers.{name}").READER
