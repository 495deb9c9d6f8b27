"""What came out for an answer, as a line of the file that `main_eval score --task waf` reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["mapped", "empty", "unknown", "mixed", "asked_again", "unmapped"]
"""`empty`: no words; `unknown`: none in the lexicon; `mixed`, `asked_again`, `unmapped`: what a model replied."""


@dataclass(frozen=True)
class Mapped:
    """An answer's sentiment. Every status but `mapped` and `asked_again` is counted as neutral."""

    name: str
    words: list[str]
    sentiment: str
    status: Status = "mapped"
    raw: tuple[str, ...] = ()
    """The model's replies in order, where the first was none of the three sentiments."""

    def line(self) -> dict[str, Any]:
        """The content of its line; `raw` only where there is something in it."""
        raw = {"raw": list(self.raw)} if self.raw else {}
        return {"name": self.name, "words": self.words, "sentiment": self.sentiment, **raw}
