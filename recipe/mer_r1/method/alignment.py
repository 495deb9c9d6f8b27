"""Where the words of an answer start in tokens, in the sampled response and in its fast form (Eq. 8).

Text and tokens are matched byte by byte, so that it does not matter how the policy happened to spell its text: words
split over tokens, a token that holds the end of a tag and the beginning of a word (``>happy``), characters cut in two
by the length limit.

The fast form is the same answer behind an emptied thought. Its answer keeps the response's own tokens; only where one
token holds the end of the thought and the beginning of ``<answer>`` (Qwen's ``><``) is that part encoded anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

from recipe.mer_r1.method.answer import Answer, parse

EMPTIED_THOUGHT = "<think></think>"
_OPENING = "<answer>"


@dataclass(frozen=True, slots=True)
class AlignedWord:
    """A word of the answer and the token that covers its first character.

    ``slow`` counts tokens of the response, ``fast`` those of the branch; ``token`` is that token, the same in both. All
    are None where the word has no token of its own: it begins in the token in which ``<answer>`` begins, or in that of
    the word before.
    """

    text: str
    slow: int | None
    fast: int | None
    token: int | None = None


@dataclass(frozen=True, slots=True)
class Aligned:
    """A response read back, and its fast form."""

    text: str
    answer: Answer
    words: list[AlignedWord]
    branch_ids: list[int]
    """The fast form's tokens up to and with the one in which the last word begins; [] without words."""


def align(response_ids: Sequence[int], tokenizer: Any) -> Aligned:
    """Align a response.

    Args:
        response_ids: sampled tokens, special ones included; they count but spell nothing, as for the reward manager.
        tokenizer: of Hugging Face, with byte-level BPE.
    """
    spelling = _spelling(tokenizer)
    pieces = [spelling.get(token, b"") for token in response_ids]
    ends = list(accumulate(len(piece) for piece in pieces))  # ends[i]: bytes spelt by tokens 0 … i
    raw = b"".join(pieces)
    text = raw.decode("utf-8", errors="replace")
    answer = parse(text)
    if not answer.words:
        return Aligned(text, answer, [], [])
    byte_at = _ByteOffsets(raw, text)
    starts = [byte_at(start) for start, _ in answer.spans]
    opening = raw.rindex(_OPENING.encode(), 0, starts[0])
    first = _covering(ends, opening)  # the token in which <answer> begins
    share = b""
    if (ends[first - 1] if first else 0) < opening:
        share = raw[opening : ends[first]]
        first += 1
    prefix = tokenizer.encode(EMPTIED_THOUGHT + share.decode("utf-8", errors="replace"), add_special_tokens=False)
    words, taken, last = [], set(range(first)), first
    for word, start in zip(answer.words, starts, strict=True):
        token = _covering(ends, start)
        own = token not in taken
        taken.add(token)
        places = (token, len(prefix) + token - first, response_ids[token]) if own else (None, None, None)
        words.append(AlignedWord(word, *places))
        last = max(last, token + 1)
    return Aligned(text, answer, words, prefix + list(response_ids[first:last]))


def _covering(ends: list[int], byte: int) -> int:
    """The token that spells a byte of the text."""
    low, high = 0, len(ends) - 1
    while low < high:
        middle = (low + high) // 2
        if ends[middle] > byte:
            high = middle
        else:
            low = middle + 1
    return low


class _ByteOffsets:
    """Byte offset of a character, also where undecodable bytes became U+FFFD."""

    def __init__(self, raw: bytes, text: str):
        self._ascii = len(raw) == len(text)  # one byte a character: the usual answer
        if not self._ascii:
            self._offsets = _character_offsets(raw)

    def __call__(self, character: int) -> int:
        return character if self._ascii else self._offsets[character]


def _character_offsets(raw: bytes) -> list[int]:
    """Byte offset of every character of ``raw.decode(errors="replace")``."""
    offsets, place = [], 0
    while place < len(raw):
        try:
            text, bad = raw[place:].decode("utf-8"), None
        except UnicodeDecodeError as error:
            text, bad = raw[place : place + error.start].decode("utf-8"), error
        for character in text:
            offsets.append(place)
            place += len(character.encode())
        if bad is not None:
            offsets.append(place)
            place += bad.end - bad.start
    return offsets


@lru_cache(maxsize=8)
def _spelling(tokenizer: Any) -> dict[int, bytes]:
    """The bytes each token spells; none for special tokens, which decoding skips."""
    alphabet = _byte_alphabet()
    added = tokenizer.added_tokens_decoder
    special = set(tokenizer.all_special_ids)
    found = {}
    for piece, token in tokenizer.get_vocab().items():
        if token in special or (token in added and added[token].special):
            found[token] = b""
        elif token in added:
            found[token] = piece.encode()
        else:
            found[token] = bytes(alphabet[character] for character in piece)
    return found


def _byte_alphabet() -> dict[str, int]:
    """Byte-level BPE's characters, one a byte (GPT-2's): printable bytes are themselves, the others follow from 256."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
