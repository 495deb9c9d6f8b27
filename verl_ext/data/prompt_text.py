"""What text must not contain when it becomes part of a prompt or of a response: the words that steer a model.

A tokenizer turns `<|im_end|>` in a subtitle into the token that ends the turn, and `<video>` into another clip.
So these are refused by name, wherever text enters: shards, the demo page, Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

PLACEHOLDERS = ("<video>", "<audio>", "<image>")
"""What a dataset replaces by a clip."""
SPECIAL = r"<\|[^|>]*\|>|</?tool_call>|<tts_\w+>"
"""Tokens of Qwen2.5-Omni's tokenizer that are no words. `recipe.mer_r1.method.answer` has the same rule; a test holds
the two together."""
_SPECIAL = re.compile(SPECIAL)
_ALL = re.compile("|".join((SPECIAL, *PLACEHOLDERS)))


class PromptTextError(ValueError):
    """Text that may not be part of a prompt; the message names what it contains."""


def special_token(text: str, *, placeholders: bool = True, tokens: Iterable[str] = ()) -> str | None:
    """The first special token in a text, or None.

    Args:
        text: of a prompt or a response.
        placeholders: whether `<video>`, `<audio>` and `<image>` count too.
        tokens: other special tokens, e.g. all of a tokenizer.
    """
    found = (_ALL if placeholders else _SPECIAL).search(text)
    return found[0] if found else next((token for token in tokens if token and token in text), None)


def check_text(text: str, where: str, *, placeholders: bool = True, tokens: Iterable[str] = ()) -> None:
    """Refuse a text with a special token.

    Raises:
        PromptTextError: names `where`, the token and how to fix it.
    """
    if token := special_token(text, placeholders=placeholders, tokens=tokens):
        raise PromptTextError(f"{where} contains {token!r}, which the model would read as a command; remove it")
