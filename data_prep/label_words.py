"""Labels with characters that are not part of a word: `happy，excited`, `“sad”`, `Happy/Joyful`.

The official scorer splits a list at ASCII commas and quotes alone. So such a label is one word, which no wheel knows.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal

OddLabels = Literal["refuse", "split", "keep"]
"""refuse: a fault of the row; split: separate the words there; keep: one word, as the official scorer reads it."""
KIND = "label_separator"
_ASCII = frozenset(";/|\\&+{}[]<>*")
"""ASCII characters that separate words in other people's lists. A comma or a quote was split at before."""
_ZERO_WIDTH_SPACE = "\u200b"


def odd_character(label: str) -> str | None:
    """The first character of a label that is not part of a word, or None."""
    return next((char for at, char in enumerate(label) if _is_odd(char) and not _is_apostrophe(label, at)), None)


def described(char: str) -> str:
    """A character that may be invisible, e.g. `'，' (U+FF0C FULLWIDTH COMMA)`."""
    shown = char if char.isprintable() else "\\u" + format(ord(char), "04x")
    return f"'{shown}' (U+{ord(char):04X} {unicodedata.name(char, 'control character')})"


def split(labels: Iterable[str]) -> tuple[str, ...]:
    """The words of labels, separated at odd characters, each once and in order.

    Characters of no width are removed (a zero width space separates), full-width letters become usual ones, and other
    dashes become `-`.
    """
    words = (" ".join(part.split()) for label in labels for part in _plain(label).split(","))
    return tuple(dict.fromkeys(word for word in words if word))


def settle(labels: Sequence[str], options: Sequence[str], choice: OddLabels) -> tuple[tuple[str, ...], str | None]:
    """A row's labels as the choice wants them, and what is wrong with them, if anything.

    Args:
        labels: of the row.
        options: labels to choose among; a label that is one of them is a class of the corpus, and is left alone.
        choice: what to do.
    """
    odd = [label for label in labels if label not in options and odd_character(label)]
    if not odd or choice == "keep":
        return tuple(labels), None
    if choice == "refuse":
        return tuple(labels), (
            f"the label {odd[0]!r} contains {described(odd_character(odd[0]))}, so it is read as one word; separate "
            "words by a comma, or build with --odd-labels split (keep: one word, as the official scorer reads it)"
        )
    parts = (part for label in labels for part in (split([label]) if label in odd else (label,)))
    words = tuple(dict.fromkeys(parts))
    return words, None if words else f"the labels {list(labels)!r} contain no word; fill them in"


def _is_odd(char: str) -> bool:
    if char.isascii():
        return char in _ASCII or not (char.isprintable() or char.isspace())
    if char.isspace():
        return False
    # Punctuation, symbols, controls, and letters such as the full-width "ａ".
    return unicodedata.category(char)[0] in "PSC" or unicodedata.normalize("NFKC", char).isascii()


def _is_apostrophe(label: str, at: int) -> bool:
    """Whether the character is the ’ of "don’t care", which a wheel knows; elsewhere ’ is a quote."""
    return label[at] == "’" and label[at - 1 : at].isalpha() and label[at + 1 : at + 2].isalpha()


def _plain(label: str) -> str:
    """The label with a comma for each odd character that separates."""
    return "".join(
        _replaced(char) if _is_odd(char) and not _is_apostrophe(label, at) else char for at, char in enumerate(label)
    )


def _replaced(char: str) -> str:
    category = unicodedata.category(char)
    if char == _ZERO_WIDTH_SPACE:
        return ","
    if category == "Cf":
        return ""
    if category == "Pd" and not char.isascii():
        return "-"
    plain = unicodedata.normalize("NFKC", char)
    return plain.lower() if plain.isascii() and plain.isalnum() else ","
