"""Reads the batches that ``trainer.rollout_data_dir`` keeps (DIR/STEP.jsonl, one line a response) and checks them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recipe.mer_r1.method.word_confidence import MODES, NAN, WordConfidence

Row = dict[str, Any]
_TEXTS = {"input": str, "output": str, "gts": list}
_WORD_KEYS = {"word", "counted", *MODES, *(f"{mode}_word" for mode in MODES)}

HOW_TO_WRITE = "run main_ppo with trainer.rollout_data_dir=DIR"


class BatchError(ValueError):
    """A file that is no rollout batch; the message names the file and the line."""


@dataclass(frozen=True)
class Batch:
    """The responses of one file, that is of one step."""

    path: Path
    rows: list[Row]
    """As the file has them."""
    group: list[str]
    """``(B,)``, the prompt of each response: its uid without the numbers of response and turn."""
    signals: dict[str, torch.Tensor]
    """``(B,)`` float64 each; NaN where the file has null."""
    advantage: torch.Tensor | None
    """``(B,)``, which the responses were trained with; None where verl's own estimator made it."""
    tokens: torch.Tensor | None
    """``(B,)``, how many tokens of each response were trained on; None where the file does not say."""


def read_batches(path: Path) -> list[Batch]:
    """The batch of a file, or those of all files of a folder in the order of their steps.

    Raises:
        BatchError: there is no such file, or a line is not what it should be.
    """
    if not path.is_dir():
        return [read_batch(path)]
    files = sorted(path.glob("*.jsonl"), key=lambda file: (len(file.stem), file.stem))  # 2 before 10
    if not files:
        raise BatchError(f"{path}: no *.jsonl in this folder; {HOW_TO_WRITE}")
    return [read_batch(file) for file in files]


def read_batch(path: Path) -> Batch:
    """One file."""
    if not path.is_file():
        raise BatchError(f"{path}: no such file; {HOW_TO_WRITE}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BatchError(f"{path}: not a UTF-8 text file ({error}); {HOW_TO_WRITE}") from error
    # Not splitlines: U+2028 and the like inside a JSON string are text.
    lines = text.removesuffix("\n").split("\n")
    rows = [_row(line, f"{path} line {number}") for number, line in enumerate(lines, 1)]
    for number, row in enumerate(rows, 1):
        _check_like_first(row, rows[0], f"{path} line {number}")
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        if (first := seen.setdefault(row["uid"], number)) != number:
            raise BatchError(
                f"{path} line {number}: the uid {row['uid']} is already in line {first}; remove one of the lines"
            )
    return Batch(
        path,
        rows,
        group=[group_of(row["uid"]) for row in rows],
        signals=signals_of(rows),
        advantage=_tensor([row["advantage"] for row in rows]) if "advantage" in rows[0] else None,
        tokens=torch.tensor([row["tokens"] for row in rows]) if "tokens" in rows[0] else None,
    )


def _tensor(values: list[float | None]) -> torch.Tensor:
    return torch.tensor([number(value) for value in values], dtype=torch.float64)


def _row(line: str, where: str) -> Row:
    """A line's object, its columns checked."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise BatchError(
            f"{where}: not JSON ({error}); the run may have stopped while it wrote the file; remove the line"
        ) from error
    if not isinstance(row, dict):
        raise BatchError(f"{where}: a JSON object is needed, not a {type(row).__name__}")
    parts = uid.rsplit("_", 2) if isinstance(uid := row.get("uid"), str) else []
    if len(parts) != 3 or not parts[0] or not (parts[1] + parts[2]).isdigit():
        raise BatchError(f"{where}: uid is {uid!r}, but must be PROMPT_RESPONSE_TURN, such as 3f2a_0_0")
    if "signals" not in row:
        raise BatchError(
            f"{where}: column `signals` is missing; only this project's trainers write it "
            "(trainer.v1.trainer_mode=mer_r1_sync, mer_r1_colocate_async or mer_r1_separate_async)"
        )
    for column in ("signals", "terms"):
        values = row.get(column, {})
        if not isinstance(values, dict):
            raise BatchError(f"{where}: {column} is {values!r}, but must be an object of names and numbers")
        for name, value in values.items():
            if value is not None and not _is_number(value):
                raise BatchError(f"{where}: {column}.{name} is {value!r}, but must be a finite number or null")
    if "advantage" in row and not _is_number(row["advantage"]):
        raise BatchError(f"{where}: advantage is {row['advantage']!r}, but must be a finite number")
    if "tokens" in row and not (isinstance(row["tokens"], int) and row["tokens"] >= 0):
        raise BatchError(f"{where}: tokens is {row['tokens']!r}, but must be a non-negative integer")
    return row


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_like_first(row: Row, first: Row, where: str) -> None:
    """All lines of a file have the same columns, signals and terms."""
    for name, mine, others in (
        ("columns", row, first),
        ("signals", row["signals"], first["signals"]),
        ("terms", row.get("terms", {}), first.get("terms", {})),
    ):
        if odd := sorted(set(mine) ^ set(others)):
            raise BatchError(f"{where}: its {name} differ from those of line 1: {', '.join(odd)}")


def check_texts(batch: Batch) -> None:
    """What a reader needs beside the numbers: prompt, response, labels, and whole words where there are any.

    Raises:
        BatchError: a column is missing or of another kind.
    """
    for line, row in enumerate(batch.rows, 1):
        for key, kind in _TEXTS.items():
            if not isinstance(row.get(key), kind):
                found = f"{key} is a {type(row[key]).__name__}" if key in row else f"column {key!r} is missing"
                raise BatchError(f"{batch.path} line {line}: {found}; {HOW_TO_WRITE}")
        for word in row.get("words") or ():
            if missing := sorted(_WORD_KEYS - set(word)):
                raise BatchError(f"{batch.path} line {line}: the words have no {', '.join(missing)}")


def group_of(uid: str) -> str:
    """The prompt a response belongs to: ``GROUP`` of ``GROUP_r_o``."""
    return uid.rsplit("_", 2)[0]


def signals_of(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """The stored signals, ``(B,)`` float64 a name; NaN where undefined."""
    return {name: _tensor([row["signals"][name] for row in rows]) for name in rows[0]["signals"]}


def number(value: float | None) -> float:
    """A stored number; NaN for null."""
    return NAN if value is None else float(value)


def word_confidences(
    words: Sequence[Mapping[str, Any]],
) -> tuple[list[WordConfidence], list[tuple[str, str]]]:
    """The stored ``words`` as :func:`recipe.mer_r1.method.confidence.read` takes them, and the rows' columns."""
    first = next((word["slow"] for word in words if word["counted"]), {})
    names = [(wheel, category) for wheel, categories in first.items() for category in categories]
    found = []
    for word in words:
        rows = None
        if word["counted"]:
            rows = {m: [number(word[m][w][c]) for w, c in names] + [number(word[f"{m}_word"])] for m in MODES}
        found.append(WordConfidence(word["word"], rows, word.get("covered", {})))
    return found, names
