"""A rollout batch file (``trainer.rollout_data_dir``, written through :mod:`recipe.mer_r1.rollout_file`) read back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from recipe.mer_r1.confidence import MODES, NAN, WordConfidence

Row = dict[str, Any]
_KEYS = {"input": str, "output": str, "gts": list, "uid": str, "signals": dict}
_WORD_KEYS = {"word", "counted", *MODES, *(f"{mode}_word" for mode in MODES)}


class BatchError(ValueError):
    """A file that is no rollout batch; the message names the file, the line and what is wrong."""


def read_batch(path: Path) -> list[Row]:
    """The responses of a batch in file order.

    Raises:
        BatchError: no such file, no rows, a line that is no JSON object or lacks a column.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BatchError(f"{path}: can't be read as a rollout batch ({error})") from None
    # Not splitlines: U+2028 and the like inside a JSON string are text.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise BatchError(f"{path}: holds no responses")
    return [_row(line, f"{path}, line {number}") for number, line in lines]


def _row(line: str, place: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise BatchError(f"{place}: no JSON ({error}); was the run killed while it wrote?") from None
    if not isinstance(row, dict):
        raise BatchError(f"{place}: a {type(row).__name__}, not the object of one response")
    for key, kind in _KEYS.items():
        if not isinstance(row.get(key), kind):
            found = f"{key} is a {type(row[key]).__name__}" if key in row else f"no column {key!r}"
            raise BatchError(f"{place}: {found}; main_ppo with trainer.rollout_data_dir=DIR writes such files")
    for word in row.get("words") or ():
        if missing := sorted(_WORD_KEYS - set(word)):
            raise BatchError(f"{place}: the words lack {', '.join(missing)}")
    return row


def group_of(uid: str) -> str:
    """The prompt a response belongs to: ``GROUP`` of ``GROUP_r_o``."""
    return uid.rsplit("_", 2)[0]


def signals_of(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """The stored signals, ``(B,)`` float32 a name; NaN where undefined."""
    names = dict.fromkeys(name for row in rows for name in row["signals"])
    return {name: torch.tensor([number(row["signals"].get(name)) for row in rows]) for name in names}


def number(value: float | None) -> float:
    """A stored number; NaN for null."""
    return NAN if value is None else float(value)


def word_confidences(
    words: Sequence[Mapping[str, Any]],
) -> tuple[list[WordConfidence], list[tuple[str, str]]]:
    """The stored ``words`` as :func:`recipe.mer_r1.confidence.read` takes them, and the names of the rows' columns."""
    first = next((word["slow"] for word in words if word["counted"]), {})
    names = [(wheel, category) for wheel, categories in first.items() for category in categories]
    found = []
    for word in words:
        rows = None
        if word["counted"]:
            rows = {m: [number(word[m][w][c]) for w, c in names] + [number(word[f"{m}_word"])] for m in MODES}
        found.append(WordConfidence(word["word"], rows))
    return found, names
