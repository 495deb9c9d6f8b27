"""What came out for an answer, as a line of verdicts.jsonl."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Status = Literal["scored", "unparseable", "failed"]
"""`unparseable`: the judge replied, not in the form asked for; `failed`: there was no reply, or the clip is damaged."""


class Verdict(BaseModel):
    """An answer's steps and scores, or why it has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    index: int
    name: str
    task: str
    status: Status
    steps: list[str] = []
    scores: list[str] = []
    """As fractions, the predicted label's last."""
    recognition: float | None = None
    """0 … 1."""
    reasoning: float | None = None
    """0 … 1."""
    reason: str | None = None
    """Why it was not scored, or is worth nothing: there was no response."""
