"""First tokens of the words of every category: the sets whose mass is a category's confidence (Eq. 1).

A word has different first tokens where an answer begins, after a blank, after other separators, and capitalised; the
sampled text decides which of them can come, so a category's set holds them all, each once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from recipe.mer_r1.method.wheel import EmotionWheels

SEPARATORS = ("", " ", ">", ",", "[", "'", '"', "\n")


@dataclass(frozen=True)
class CategorySets:
    """The level-1 categories of all wheels, wheel by wheel, and their tokens."""

    names: list[tuple[str, str]]
    """``(wheel, category)``, S of them."""
    token_ids: list[list[int]]
    """Sorted, distinct; empty where every token is shared with another category of the wheel."""
    dropped: int
    """Tokens that were dropped from the sets because two categories of a wheel share them."""

    def __str__(self) -> str:
        empty = ["/".join(name) for name, ids in zip(self.names, self.token_ids, strict=True) if not ids]
        tokens = len({token for ids in self.token_ids for token in ids})
        note = f"; no tokens left for {', '.join(empty)}" if empty else ""
        return f"{len(self.names)} categories, {tokens} first tokens, {self.dropped} shared tokens dropped{note}"


def category_sets(
    wheels: EmotionWheels, tokenizer: Any, shared_tokens: Literal["drop", "keep"] = "drop"
) -> CategorySets:
    """The sets of a tokenizer.

    Args:
        wheels: V(c) is `wheels.words(wheel, c)`, a category's words of all levels.
        tokenizer: of Hugging Face, byte-level.
        shared_tokens: what becomes of a token that words of two categories of one wheel begin with.
    """
    names = [(wheel, category) for wheel in wheels.ids for category in wheels.all_categories(wheel)]
    words = {name: wheels.words(*name) for name in names}
    first = _first_tokens(tokenizer, {word for found in words.values() for word in found})
    sets = {name: {token for word in found for token in first[word]} for name, found in words.items()}
    dropped = 0
    if shared_tokens == "drop":
        for wheel in wheels.ids:
            own = [name for name in names if name[0] == wheel]
            count = Counter(token for name in own for token in sets[name])
            shared = {token for token, homes in count.items() if homes > 1}
            dropped += len(shared)
            for name in own:
                sets[name] -= shared
    return CategorySets(names, [sorted(sets[name]) for name in names], dropped)


def _first_tokens(tokenizer: Any, words: Iterable[str]) -> dict[str, set[int]]:
    """First token of each word's forms, less those that hold nothing of the word."""
    words = sorted(words)
    forms = [
        (word, separator, separator + form)
        for word in words
        for form in dict.fromkeys((word, word[0].upper() + word[1:]))
        for separator in SEPARATORS
    ]
    encoded = tokenizer([text for _, _, text in forms], add_special_tokens=False)["input_ids"]
    bare = {token for separator in SEPARATORS[1:] for token in tokenizer.encode(separator, add_special_tokens=False)}
    found: dict[str, set[int]] = {word: set() for word in words}
    for (word, _, _), ids in zip(forms, encoded, strict=True):
        if ids and ids[0] not in bare:
            found[word].add(ids[0])
    return found
