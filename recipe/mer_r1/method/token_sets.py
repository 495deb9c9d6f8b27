"""First tokens of the words of every category: the sets whose probability mass is a category's confidence (Eq. 1).

V(c) holds every word that the wheel's mapping (Eq. 35: forms, synonyms) takes to the category c, not only the wheel's
own words: an answer may use any of them. A word has different first tokens at the start of an answer, after a blank,
after other separators, and capitalised. The sampled text decides which of them can come, so a set holds them all, each
once.

Words of several categories of a wheel can begin with the same token ("dis" of disgusted and disappointed). The rule for
such a shared token is a setting; docs/experiments.md shows what each rule does to the readings.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, get_args

from recipe.mer_r1.method.wheel import EmotionWheels

SEPARATORS = ("", " ", ">", ",", "[", "'", '"', "\n")
SharedTokens = Literal["split", "drop", "keep"]
SHARED_TOKENS: tuple[str, ...] = get_args(SharedTokens)


@dataclass(frozen=True)
class CategorySets:
    """The level-1 categories of all wheels, wheel by wheel, and their tokens.

    Attributes:
        names: ``(wheel, category)``, S of them.
        token_ids: by category: sorted, distinct; empty where no token is left to the category.
        shares: by category and token: the share of the token's probability that counts for the category, in (0, 1].
        shared: number of tokens that words of two categories of one wheel begin with, summed over the wheels.
    """

    names: list[tuple[str, str]]
    token_ids: list[list[int]]
    shares: list[list[float]]
    shared: int = 0

    def share(self, index: int, token: int) -> float:
        """The share of a token's probability that counts for category number `index`; 0 for a token not in its set."""
        return self._by_token[index].get(token, 0.0)

    def homes(self, word: str, wheels: EmotionWheels) -> dict[str, int]:
        """The number of the word's own category by wheel; wheels that do not map the word are left out."""
        found = ((wheel, wheels.category(word, wheel)) for wheel in wheels.ids)
        return {wheel: self._column[wheel, category] for wheel, category in found if category is not None}

    @cached_property
    def _column(self) -> dict[tuple[str, str], int]:
        return {name: index for index, name in enumerate(self.names)}

    @cached_property
    def _by_token(self) -> list[dict[int, float]]:
        return [dict(zip(ids, shares, strict=True)) for ids, shares in zip(self.token_ids, self.shares, strict=True)]

    def __str__(self) -> str:
        empty = ["/".join(name) for name, ids in zip(self.names, self.token_ids, strict=True) if not ids]
        tokens = len({token for ids in self.token_ids for token in ids})
        note = f"; no tokens left for {', '.join(empty)}" if empty else ""
        return f"{len(self.names)} categories, {tokens} first tokens, {self.shared} shared by two categories{note}"


def category_sets(wheels: EmotionWheels, tokenizer: Any, shared_tokens: SharedTokens = "split") -> CategorySets:
    """The sets of a tokenizer.

    Args:
        wheels: V(c) is `wheels.mapped_words(wheel, c)`.
        tokenizer: of Hugging Face, byte-level.
        shared_tokens: what happens to a token that words of several categories of one wheel begin with. "split": its
            probability is divided among them by their numbers of such words; "drop": it counts for none of them;
            "keep": it counts in full for each.

    Raises:
        ValueError: there is no such rule.
    """
    if shared_tokens not in SHARED_TOKENS:
        raise ValueError(f"shared_tokens={shared_tokens!r}: there are {', '.join(SHARED_TOKENS)}")
    names = [(wheel, category) for wheel in wheels.ids for category in wheels.all_categories(wheel)]
    words = {name: wheels.mapped_words(*name) for name in names}
    first = _first_tokens(tokenizer, tuple(sorted({word for found in words.values() for word in found})))
    counts = {name: Counter(token for word in found for token in first[word]) for name, found in words.items()}
    token_ids, shares, shared = [], [], 0
    for wheel in wheels.ids:
        own = [counts[name] for name in names if name[0] == wheel]
        total = sum(own, Counter())
        homes = Counter(token for count in own for token in count)
        shared += sum(number > 1 for number in homes.values())
        for count in own:
            ids = sorted(token for token in count if shared_tokens != "drop" or homes[token] == 1)
            token_ids.append(ids)
            shares.append([count[token] / total[token] if shared_tokens == "split" else 1.0 for token in ids])
    return CategorySets(names, token_ids, shares, shared)


@lru_cache(maxsize=4)  # seconds for the official wheels' 7,000 words on Qwen's vocabulary
def _first_tokens(tokenizer: Any, words: tuple[str, ...]) -> dict[str, set[int]]:
    """First token of each word's forms, without tokens that hold nothing of the word."""
    forms = [
        (word, separator, separator + form)
        for word in words
        for form in dict.fromkeys((word, word[0].upper() + word[1:]))
        for separator in SEPARATORS
    ]
    encoded = tokenizer([text for _, _, text in forms], add_special_tokens=False, return_attention_mask=False)[
        "input_ids"
    ]
    bare = {token for separator in SEPARATORS[1:] for token in tokenizer.encode(separator, add_special_tokens=False)}
    found: dict[str, set[int]] = {word: set() for word in words}
    for (word, _, _), ids in zip(forms, encoded, strict=True):
        if ids and ids[0] not in bare:
            found[word].add(ids[0])
    return found
