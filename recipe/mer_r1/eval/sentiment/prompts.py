"""What the language model is asked: a list of emotion words, and which of three sentiments they make."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from recipe.mer_r1.eval.judge.prompts import Messages

SENTIMENTS = ("positive", "negative", "neutral")

# Printed in the paper (appendix B.1, "Sentiment Mapping Prompt"). Where the words stand is not printed; here they
# follow on a line of their own, as in the other wording.
_PAPER = (
    "Please assume the role of an expert in emotions. We provide a set of emotion words describing a character. "
    "Please choose the most likely sentiment from the candidates: [positive, negative, neutral]."
)
# MER-UniBench's protocol in our own words: the same choice, and no analysis.
_BENCHMARK = (
    "You are an expert on emotions. The words below describe how a person feels. Pick the one sentiment of "
    "[positive, negative, neutral] that fits them best. Reply with that word alone, without any analysis."
)
WORDINGS = {"paper": _PAPER, "benchmark": _BENCHMARK}

_AGAIN = "Reply with exactly one of these words and nothing else: positive, negative, neutral."


def question(wording: str, words: Sequence[str]) -> Messages:
    """A user turn alone, as the benchmark has it; `wording` is a key of WORDINGS."""
    return [{"role": "user", "content": f"{WORDINGS[wording]}\n\nEmotion words: {', '.join(words)}"}]


def again(messages: Messages, reply: str) -> Messages:
    """The talk so far and a reminder: the same request once more would get the same reply at temperature 0."""
    return [*messages, {"role": "assistant", "content": reply}, {"role": "user", "content": _AGAIN}]


def wording_hash(wording: str) -> str:
    """sha256 of everything that is said, as hex: sentiments by other wordings are not comparable."""
    return hashlib.sha256(json.dumps(again(question(wording, ["?"]), "?")).encode()).hexdigest()
