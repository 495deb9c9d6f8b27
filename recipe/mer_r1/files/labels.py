"""Reads labels and predictions from CSV, JSONL and npz files into dicts from sample name to value."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from recipe.mer_r1.files.errors import SEVERAL_ANSWERS, InputError
from recipe.mer_r1.files.npz import read_npz
from recipe.mer_r1.method.answer import split_list

Kind = Literal["words", "value", "text"]
"""A list of words, a sentiment score, or a single text."""

# Kind → the columns (CSV) or keys (JSONL) that may hold it, and the entry of a MERBench label.
_COLUMNS: dict[str, tuple[str, ...]] = {
    "words": ("openset", "labels", "label"),
    "value": ("val",),
    "text": ("sentiment",),
}
_EMOTIONS = {
    "meld": ("anger", "joy", "sadness", "neutral", "disgust", "fear", "surprise"),
    "iemocap": ("happy", "sad", "neutral", "anger"),
}
# What MERBench reads where a label has no score.
NO_VALUE = -10.0


@dataclass(frozen=True)
class Source:
    """A file and how to read it."""

    path: Path
    kind: Kind
    key: str | None = None
    """Which member of a MERBench label npz."""
    emotions: str | None = None
    """What numbered emotions stand for: "meld", "iemocap", or comma-separated names."""
    predictions: bool = False
    """Whether answers are read: `main_eval run` writes an answer to `words`, its truth beside it to `labels`."""


def read(source: Source) -> dict[str, Any]:
    """Sample name → list of words, score or text, in file order. Raises InputError for everything wrong with it."""
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".npz": _npz_rows}
    reader = readers.get(source.path.suffix.lower())
    if reader is None:
        raise InputError(f"{source.path}: the file name must end in {', '.join(readers)}")
    if not source.path.is_file():
        raise InputError(f"{source.path}: no such file")
    found: dict[str, Any] = {}
    for where, name, value in reader(source):
        if not name:
            raise InputError(f"{where}: the name is empty")
        if name in found:
            raise InputError(f"{where}: the name {name!r} appears twice in this file")
        found[name] = _convert(value, source.kind, where)
    if not found:
        raise InputError(f"{source.path}: the file has no rows")
    return found


def _convert(value: Any, kind: Kind, where: str) -> Any:
    if kind == "value":
        try:
            score = float(value)
        except (TypeError, ValueError):
            score = math.nan
        if not math.isfinite(score):
            raise InputError(f"{where}: the score {value!r} is not a finite number")
        return score
    if kind == "text":
        return value if isinstance(value, str) else _words(value, where)
    return _words(value, where)


def _name(value: Any, where: str) -> str:
    """A sample's name; null is none, and no sample is called "None"."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise InputError(f"{where}: the name {value!r} must be a string or an integer")
    return str(value)


def _words(value: Any, where: str) -> list[str]:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return []
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, str):
        return split_list(value)
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return value
    raise InputError(f"{where}: {value!r} must be a string or a list of words")


def _checked_brackets(text: Any, where: str) -> Any:
    """Text whose square brackets don't match was cut or mistyped: better asked about than scored."""
    if isinstance(text, str) and text.count("[") != text.count("]"):
        raise InputError(f"{where}: unbalanced bracket in {text!r}; write it as [word, word] or word, word")
    return text


def _column(kind: Kind, names: list[str], where: str) -> str:
    wanted = _COLUMNS[kind]
    found = [name for name in wanted if name in names]
    if "name" not in names or not found:
        raise InputError(
            f"{where}: needs the columns name and {' or '.join(wanted)}, found {', '.join(names) or 'nothing'}"
        )
    return found[0]


def _csv_rows(source: Source) -> Iterator[tuple[str, str, Any]]:
    try:
        with source.path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.reader(stream, strict=True)
            header = [name.strip() for name in next(rows, [])]
            column = header.index(_column(source.kind, header, f"{source.path}, header"))
            for row in rows:
                where = f"{source.path}, line {rows.line_num}"
                if not row:
                    continue
                if len(row) != len(header):
                    raise InputError(
                        f"{where}: {len(row)} fields for {len(header)} columns; put lists with commas in quotes"
                    )
                yield where, row[header.index("name")], _checked_brackets(row[column], where)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{source.path}: cannot be read as CSV in UTF-8 ({error})") from error


def _jsonl_rows(source: Source) -> Iterator[tuple[str, str, Any]]:
    try:
        # Not splitlines: a line separator inside a JSON string is text.
        lines = source.path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{source.path}: cannot be read as UTF-8 ({error})") from error
    for number, line in enumerate(lines, start=1):
        where = f"{source.path}, line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise InputError(f"{where}: is not a JSON object")
        # Files of `main_eval run` hold both: taking the truth for the answer would score 100 %.
        generated = source.predictions and source.kind == "words" and {"words", "response"} <= row.keys()
        if generated and row.get("sample"):
            raise InputError(f"{source.path} {SEVERAL_ANSWERS}")
        column = "words" if generated else _column(source.kind, list(row), where)
        yield where, _name(row["name"], where), _checked_brackets(row[column], where)


def _npz_rows(source: Source) -> Iterator[tuple[str, str, Any]]:
    content = read_npz(source.path)
    if "filenames" in content and "fileitems" in content and source.key is None:
        names, items = list(content["filenames"]), list(content["fileitems"])
        if len(names) != len(items):
            raise InputError(f"{source.path}: {len(names)} filenames but {len(items)} fileitems")
        # Cached model outputs, taken by the list rule as they are, the way the official scorer takes them.
        for number, (name, item) in enumerate(zip(names, items, strict=True)):
            where = f"{source.path}, item {number}"
            yield where, _name(_plain(name), where), _plain(item)
        return
    yield from _label_rows(source, content)


def _label_rows(source: Source, content: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    corpora = [key for key, value in content.items() if isinstance(value, dict)]
    if source.key not in corpora:
        wrong = f"has no label member {source.key!r}" if source.key else "contains labels; choose them with --key"
        known = f"it has {', '.join(corpora)}" if corpora else f"it contains {', '.join(content) or 'nothing'}"
        raise InputError(f"{source.path}: {wrong}; {known}")
    labels = content[source.key]
    entry = "val" if source.kind == "value" else "emo"
    if not any(isinstance(label, dict) and entry in label for label in labels.values()):
        raise InputError(f"{source.path}, {source.key}: no label has an entry {entry!r}")
    for name, label in labels.items():
        where = f"{source.path}, {source.key}, {name}"
        if not isinstance(label, dict) or (entry == "emo" and "emo" not in label):
            raise InputError(f"{where}: {label!r} has no entry {entry!r}")
        value = _plain(label.get(entry, NO_VALUE))
        yield where, str(name), value if entry == "val" else _emotion(value, source.emotions, where)


def _emotion(value: Any, emotions: str | None, where: str) -> str:
    """The word of a label that may be a number."""
    if isinstance(value, str):
        return value
    if emotions is None:
        known = "; ".join(f"{name}: {', '.join(words)}" for name, words in _EMOTIONS.items())
        raise InputError(f"{where}: the label is the number {value!r}; add --emotions meld|iemocap|a,b,… ({known})")
    words = _EMOTIONS.get(emotions) or tuple(re.split(r"\s*,\s*", emotions.strip()))
    if not isinstance(value, int) or not 0 <= value < len(words):
        raise InputError(f"{where}: the label {value!r} is not in 0 … {len(words) - 1} ({', '.join(words)})")
    return words[value]


def _plain(value: Any) -> Any:
    """A numpy scalar or 0-d array as the Python value it holds."""
    return value.item() if isinstance(value, np.generic | np.ndarray) and np.ndim(value) == 0 else value
