"""Emotion wheels: map a free-form word, or a set of words, to categories (paper, Eq. 35 and appendix B.1).

`EmotionWheels.builtin()` is the embedded default; `EmotionWheels.load(source)` reads the official files and then equals
the official scorer. Categories of all wheels are also packed into the bits of one integer (`mask`), which is what makes
scoring fast: a set of categories on all five wheels is one `|` per word, an intersection one `&`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from recipe.mer_r1.method.wheels.table import Candidate, WheelError, WheelTable

Rules = Literal["mer2025", "mer2026"]
WheelId = int | str
_LEVELS = (1, 2)
# Words a model invents never end; past this many remembered words the memory starts anew.
_MEMORY = 1_000_000

__all__ = ["EmotionWheels", "Explanation", "Rules", "WheelChoice", "WheelError", "WheelId", "load_wheels"]


@dataclass(frozen=True)
class WheelChoice:
    """How a word found its category on one wheel; all None where it did not."""

    form: str | None
    candidate: str | None
    level1: str | None
    level2: str | None


@dataclass(frozen=True)
class Explanation:
    """How a word is mapped: its base forms, all candidates in order of preference, and the choice per wheel."""

    word: str
    known: bool
    forms: list[str]
    candidates: list[str]
    wheels: dict[str, WheelChoice]

    def __str__(self) -> str:
        if not self.known:
            return f"{self.word}: unknown, dropped on every wheel"
        lines = [f"{self.word}: form of {', '.join(self.forms)}; candidates {', '.join(self.candidates)}"]
        for wheel, choice in self.wheels.items():
            found = f"{choice.candidate} (form {choice.form}) → {choice.level1} / {choice.level2}"
            lines.append(f"  {wheel}: {found if choice.candidate else 'no candidate on this wheel'}")
        return "\n".join(lines)


class _Level:
    """One level of all wheels as bits: bit numbers, the mask of each wheel, and the masks of words met so far."""

    def __init__(self, table: WheelTable, level: int) -> None:
        self.maps = [wheel.level(level) for wheel in table.wheels]
        self.names: list[str] = []
        self.bits: list[dict[str, int]] = []
        self.memory: dict[str, int] = {}
        masks: list[int] = []
        # A wheel word's own categories, and the bits of all wheels that know it.
        self.word_bits: dict[str, tuple[int, int]] = {}
        for wheel, mapping in zip(table.wheels, self.maps, strict=True):
            start = len(self.names)
            categories = wheel.categories(level)
            bits = {category: 1 << (start + index) for index, category in enumerate(categories)}
            self.bits.append(bits)
            self.names.extend(categories)
            masks.append((1 << len(self.names)) - (1 << start))
            for word, category in mapping.items():
                own, known = self.word_bits.get(word, (0, 0))
                self.word_bits[word] = own | bits[category], known | masks[-1]
        self.wheel_masks = tuple(masks)

    def mask(self, candidates: Sequence[Candidate]) -> int:
        """The bits of the first candidate each wheel knows."""
        total = decided = 0
        for candidate in candidates:
            own, known = self.word_bits.get(candidate.word, (0, 0))
            total |= own & ~decided
            decided |= known
        return total


class EmotionWheels:
    """A set of emotion wheels, numbered from 1 ("w1" and "wheel1" name the first too).

    `name`, `version` and `sha256` say which data this is; `rules` says whether an undefined score is NaN ("mer2025") or
    0 ("mer2026").
    """

    def __init__(self, table: WheelTable, rules: Rules) -> None:
        if rules not in get_args(Rules):
            raise WheelError(f"unknown rules={rules!r}; use one of {', '.join(get_args(Rules))}")
        self.name, self.version, self.sha256, self.rules = table.name, table.version, table.sha256, rules
        self.ids = tuple(f"w{number}" for number in range(1, len(table.wheels) + 1))
        self._table = table
        self._levels = {level: _Level(table, level) for level in _LEVELS}
        self._index: dict[WheelId, int] = {}
        for index in range(len(self.ids)):
            for key in (index + 1, str(index + 1), f"w{index + 1}", f"W{index + 1}", f"wheel{index + 1}"):
                self._index[key] = index
        # Some milliseconds now, so that the first scores are as fast as the later ones. Words are looked up normalised,
        # so an entry that is not (the official files may hold some) can't be reached.
        for word in filter(lambda entry: entry == _normal(entry), table.vocabulary):
            candidates = table.candidates(word)
            for tier in self._levels.values():
                tier.memory[word] = tier.mask(candidates)

    @classmethod
    def load(cls, source: str | Path, rules: Rules = "mer2025") -> EmotionWheels:
        """Read the official wheels: a folder of xlsx files, or `wheel_mapping.npz` or a folder with it alone.

        Raises WheelError, naming the file, where it can't be used.
        """
        from recipe.mer_r1.method.wheels.mapping import MAPPING_FILE, load_mapping
        from recipe.mer_r1.method.wheels.official import FILES, load_official

        path = Path(source)
        if path.suffix == ".npz":
            return cls(load_mapping(path), rules)
        alone = (path / MAPPING_FILE).is_file() and not any((path / name).exists() for name in FILES)
        return cls(load_mapping(path / MAPPING_FILE) if alone else load_official(path), rules)

    @classmethod
    def builtin(cls, rules: Rules = "mer2026") -> EmotionWheels:
        """The embedded default: no files, no other libraries; docs/wheels.md says how far it is from the official."""
        from recipe.mer_r1.method.wheels.builtin import load_builtin

        return cls(load_builtin(), rules)

    @property
    def identity(self) -> dict[str, str]:
        """Who this is, for result files: `name`, `version`, `sha256` of the data."""
        return {"name": self.name, "version": self.version, "sha256": self.sha256}

    @property
    def vocabulary(self) -> list[str]:
        """Every word with an entry, sorted (some may still map nowhere)."""
        return sorted(self._table.vocabulary)

    def category(self, word: str, wheel: WheelId, level: int = 1) -> str | None:
        """The word's category on a wheel, or None where it has none. Case and blanks around it don't matter."""
        index, tier = self._wheel(wheel), self._level(level)
        bit = self.mask((word,), level) & tier.wheel_masks[index]
        return tier.names[bit.bit_length() - 1] if bit else None

    def categories(self, words: Iterable[str], wheel: WheelId, level: int = 1) -> set[str]:
        """The categories of a set of words on a wheel; words without one are dropped."""
        if isinstance(words, str):
            raise TypeError(
                f"categories takes a list of words, not the string {words!r}; split it with answer.split_list"
            )
        found = (self.category(word, wheel, level) for word in words)
        return {category for category in found if category is not None}

    def all_categories(self, wheel: WheelId, level: int = 1) -> list[str]:
        """Every category of a wheel, in the wheel's order."""
        return list(self._level(level).bits[self._wheel(wheel)])

    def words(self, wheel: WheelId, category: str, level: int = 1) -> list[str]:
        """The wheel's own words of a category, itself included, in the wheel's order.

        Raises KeyError where the wheel has no such category.
        """
        mapping = self._level(level).maps[self._wheel(wheel)]
        found = [word for word, home in mapping.items() if home == category]
        if not found:
            known = ", ".join(self.all_categories(wheel, level))
            raise KeyError(f"wheel {wheel} has no level-{level} category {category!r}; it has {known}")
        return found

    def mapped_words(self, wheel: WheelId, category: str, level: int = 1) -> list[str]:
        """Every word that the wheel maps to a category by its forms and synonyms (Eq. 35), sorted: V(c) of Eq. 1.

        Raises KeyError where the wheel has no such category.
        """
        bit = self._level(level).bits[self._wheel(wheel)].get(category)
        if bit is None:
            known = ", ".join(self.all_categories(wheel, level))
            raise KeyError(f"wheel {wheel} has no level-{level} category {category!r}; it has {known}")
        return [word for word in self.vocabulary if word == _normal(word) and self.mask((word,), level) & bit]

    def explain(self, word: str) -> Explanation:
        """Why a word is mapped as it is: form, candidate and category per wheel."""
        normal = _normal(word)
        found = self._table.candidates(normal)
        choices = {}
        for wheel, tree in zip(self.ids, self._table.wheels, strict=True):
            chosen = next((candidate for candidate in found if candidate.word in tree.level1), None)
            if chosen is None:
                choices[wheel] = WheelChoice(None, None, None, None)
            else:
                level1, level2 = tree.level1[chosen.word], tree.level2[chosen.word]
                choices[wheel] = WheelChoice(chosen.form, chosen.word, level1, level2)
        return Explanation(
            word=normal,
            known=normal in self._table.vocabulary,
            forms=list(dict.fromkeys(candidate.form for candidate in found)),
            candidates=list(dict.fromkeys(candidate.word for candidate in found)),
            wheels=choices,
        )

    def mask(self, words: Iterable[str], level: int = 1) -> int:
        """The categories of a set of words on all wheels at once, as bits; `wheel_masks` cuts out one wheel."""
        if isinstance(words, str):
            raise TypeError(f"mask takes a list of words, not the string {words!r}; split it with answer.split_list")
        tier = self._levels[level]
        memory = tier.memory
        total = 0
        for word in words:
            bits = memory.get(word)
            total |= self._remember(word, tier) if bits is None else bits
        return total

    def wheel_masks(self, level: int = 1) -> tuple[int, ...]:
        """The bits that belong to each wheel, in wheel order; they don't overlap."""
        return self._level(level).wheel_masks

    def _remember(self, word: str, tier: _Level) -> int:
        if len(tier.memory) >= _MEMORY:
            tier.memory.clear()
        bits = tier.mask(self._table.candidates(_normal(word)))
        tier.memory[word] = bits
        return bits

    def _wheel(self, wheel: WheelId) -> int:
        try:
            return self._index[wheel]
        except (KeyError, TypeError):
            raise KeyError(
                f"unknown wheel {wheel!r}; use one of {', '.join(self.ids)} (or 1 to {len(self.ids)})"
            ) from None

    def _level(self, level: int) -> _Level:
        try:
            return self._levels[level]
        except (KeyError, TypeError):
            raise KeyError(f"unknown level {level!r}; categories have level 1 or 2") from None


def _normal(word: str) -> str:
    return word.lower().strip()


def load_wheels(folder: str | Path | None) -> EmotionWheels:
    """The official wheels of ``folder`` or of a ``wheel_mapping.npz``, or the embedded default where none is named."""
    return EmotionWheels.builtin() if folder is None else EmotionWheels.load(folder)
