"""The data of a set of emotion wheels, whatever its source: words, trees, and who it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Row = tuple[str, str, str]
"""(level 1, level 2, level 3): one leaf of a wheel with the way to it, lower case."""


class WheelError(ValueError):
    """A wheel file or table that can't be used; the message names it and says why."""


@dataclass(frozen=True)
class Wheel:
    """One emotion wheel: each of its words → its category, per level.

    Where a word stands twice the later row counts. A level-1 word's level-2 category is its alphabetically first child.
    """

    rows: tuple[Row, ...]
    level1: dict[str, str]
    level2: dict[str, str]

    @classmethod
    def from_rows(cls, rows: Sequence[Row], source: str) -> Wheel:
        """Index the rows in file order. Raises WheelError for an empty wheel; `source` is named in the message."""
        if not rows:
            raise WheelError(f"{source}: the wheel is empty; below the header it needs one row per level-3 word")
        level1: dict[str, str] = {}
        for inner, middle, outer in rows:
            level1[inner] = inner
            level1[middle] = inner
            level1[outer] = inner
        first_child: dict[str, str] = {}
        for inner, middle, _ in rows:
            first_child[inner] = min(middle, first_child.get(inner, middle))
        level2: dict[str, str] = {}
        for inner, middle, outer in rows:
            level2[inner] = first_child[inner]
            level2[middle] = middle
            level2[outer] = middle
        return cls(tuple(rows), level1, level2)

    @classmethod
    def from_maps(cls, level1: dict[str, str], level2: dict[str, str], source: str) -> Wheel:
        """From the finished maps. Raises WheelError for an empty wheel, or where the maps have other words each."""
        if not level1:
            raise WheelError(f"{source}: the wheel is empty; its levels map each wheel word to a category")
        if odd := sorted(level1.keys() ^ level2.keys()):
            raise WheelError(f"{source}: {odd[0]!r} is on one of its levels only")
        # A category stands for itself; where it does not, it comes with the first of its words.
        words = sorted(level1, key=lambda word: level1[word] != word)
        return cls(tuple((level1[word], level2[word], word) for word in words), dict(level1), dict(level2))

    def level(self, level: int) -> dict[str, str]:
        """Word → category at level 1 or 2."""
        return {1: self.level1, 2: self.level2}[level]

    def categories(self, level: int) -> list[str]:
        """The categories that words of the wheel map to, in file order."""
        reached = set(self.level(level).values())
        return [name for name in dict.fromkeys(row[level - 1] for row in self.rows) if name in reached]


class Candidate(NamedTuple):
    """A wheel word that a given word may stand for, and the base form it was found through."""

    word: str
    form: str


@dataclass(frozen=True)
class WheelTable:
    """What a source of wheels provides to `EmotionWheels`."""

    name: str
    version: str
    sha256: str
    wheels: tuple[Wheel, ...]
    vocabulary: Iterable[str]
    """Every word with an entry, lower case."""
    candidates: Callable[[str], Sequence[Candidate]]
    """Word (lower case, stripped) → its candidates; on each wheel the first one the wheel knows counts."""
