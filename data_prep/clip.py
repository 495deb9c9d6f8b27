"""A labelled clip of a corpus, and what can be wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

SHOWN = 10
"""Faults listed in an error; the rest are counted."""


class CorpusError(ValueError):
    """A corpus cannot be read as it is; the message names file, row, key and the way out."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one clip. `kind` is a short fixed name to count by."""

    kind: str
    name: str
    message: str


@dataclass(frozen=True, slots=True)
class Clip:
    """One row of a corpus's label file with what belongs to it, faults included.

    A clip without faults has a name, labels and files that exist; whether they decode is `data_prep check`'s business.
    """

    name: str
    where: str
    """File and row of the label, for messages."""
    video: Path | None = None
    audio: Path | None = None
    """None where the corpus has no sound files; the video's own track is meant then, but not of a `silent` clip."""
    subtitle: str = ""
    labels: tuple[str, ...] = ()
    value: float | None = None
    """Sentiment score, where the corpus has one."""
    reason: str = ""
    options: tuple[str, ...] = ()
    """Labels to choose from, where the corpus asks so (MME-Emotion)."""
    group: str = ""
    """Part of the corpus, e.g. a task of MME-Emotion; appended to `data_source`."""
    faults: tuple[Fault, ...] = field(default=())
    silent: bool = False
    """Its sound is missing, and that was allowed (`build --missing keep`); its picture where `video` is None."""


def listing(faults: Iterable[Fault]) -> str:
    """The first faults, a line each, and how many more there are."""
    faults = list(faults)
    more = [f"  … and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
    return "\n".join([f"  {fault.message}" for fault in faults[:SHOWN]] + more)
