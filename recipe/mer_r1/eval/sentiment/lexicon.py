"""Sentiment without a model: the sign of the mean valence of an answer's words in VADER's lexicon."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from recipe.mer_r1.eval.sentiment.mapped import Mapped
from recipe.mer_r1.files.errors import InputError

PACKAGE = "vaderSentiment"


def load() -> dict[str, float]:
    """Lower-case word → valence, −4 (most negative) … 4, the mean rating of ten people (Hutto and Gilbert, 2014).

    Raises:
        InputError: the package is not installed.
    """
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as error:
        raise InputError(f"--mapper lexicon needs the package {PACKAGE}: pip install -e '.[eval]'") from error
    return SentimentIntensityAnalyzer().lexicon


def polarity(words: Sequence[str], lexicon: Mapping[str, float]) -> str | None:
    """The sentiment of the words that the lexicon knows, or None where it knows none of them.

    An entry of several words is looked up as a whole: "not happy" is unknown, not happy.
    """
    known = [lexicon[key] for word in words if (key := word.strip().lower()) in lexicon]
    if not known:
        return None
    # Valences have one decimal: what is left of 0.1 + 0.2 − 0.3 in binary is no sentiment.
    total = round(math.fsum(known), 6)
    return "positive" if total > 0 else "negative" if total < 0 else "neutral"


def map_words(name: str, words: list[str], lexicon: Mapping[str, float]) -> Mapped:
    """An answer's sentiment; no words, or no known one, are neutral."""
    found = polarity(words, lexicon)
    if found is not None:
        return Mapped(name, words, found)
    return Mapped(name, words, "neutral", "unknown" if words else "empty")
