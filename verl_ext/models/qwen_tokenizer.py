"""Qwen2.5-Omni's tokenizer, made from the rank file in the package dashscope: the real vocabulary, without a model."""

from __future__ import annotations

import base64
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

RANKS = 151_643
PLAIN_TOKENS = (
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
)
"""Added after the special ones; decoding does not skip them."""
INSTALL = "pip install --no-deps dashscope==2.0.2"


class VocabularyError(ValueError):
    """The package with Qwen's ranks is missing."""


def rank_file() -> Path | None:
    """Where dashscope keeps the ranks; None without dashscope. The package itself is not imported."""
    spec = find_spec("dashscope")
    file = Path(spec.origin).parent / "resources" / "qwen.tiktoken" if spec and spec.origin else None
    return file if file and file.is_file() else None


def read_ranks(path: Path) -> dict[bytes, int]:
    """Rank, which is the id too, of every token."""
    lines = (line.split() for line in path.read_bytes().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def build_qwen_tokenizer(path: Path) -> Any:
    """A `Qwen2Tokenizer` of transformers, which brings the pre-tokeniser's pattern and NFC, with Qwen's ids.

    Ranks say in which order tokens arose, not out of which two: those are what the lower ranks leave of a token.
    """
    from tokenizers import AddedToken
    from transformers import Qwen2Tokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    from verl_ext.models.tiny_tokenizer import CHAT_TEMPLATE, MEDIA_TOKENS, SPECIAL_TOKENS

    ranks = read_ranks(path)
    letter = bytes_to_unicode()

    def spelt(token: bytes) -> str:
        return "".join(letter[byte] for byte in token)

    merges = [tuple(map(spelt, _halves(token, ranks))) for token in sorted(ranks, key=ranks.get) if len(token) > 1]
    vocab = {spelt(token): rank for token, rank in ranks.items()}
    vocab |= {token: len(ranks) + number for number, token in enumerate((*SPECIAL_TOKENS, *PLAIN_TOKENS))}
    tokenizer = Qwen2Tokenizer(
        vocab=vocab,
        merges=merges,
        extra_special_tokens=dict(MEDIA_TOKENS),
        model_max_length=32768,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL_TOKENS)})
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in PLAIN_TOKENS])
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def qwen_tokenizer() -> Any:
    """The same, from the installed package.

    Raises:
        VocabularyError: dashscope is not installed.
    """
    path = rank_file()
    if path is None:
        raise VocabularyError(
            f"Qwen's vocabulary is missing: it comes with the package dashscope, which is not installed. Run {INSTALL}"
        )
    return build_qwen_tokenizer(path)


def _halves(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two tokens whose merge made one: byte-pair encoding of it with the ranks below its own."""
    parts = [token[place : place + 1] for place in range(len(token))]
    own = ranks[token]
    while len(parts) > 2:
        pairs = [ranks.get(one + two, own) for one, two in pairwise(parts)]
        best = min(pairs)
        assert best < own, f"{token!r} does not arise from lower ranks"
        place = pairs.index(best)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts[0], parts[1]
