"""The metrics file of a run: one JSON line ``{"step": …, "data": {…}}`` per step, as verl's file logger writes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipe.mer_r1.files.whole import write_whole

WINDOW = 9
"""Steps that a running mean is taken over."""


def step_of(line: str) -> float:
    """The step of a line; a line cut off by a kill counts as after every step."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return float("inf")


def keep_until(path: Path, step: int) -> None:
    """Drop the lines after ``step``: a run that resumes from a checkpoint takes those steps again.

    A kill or a full disk meanwhile leaves the file as it was.
    """
    kept = _lines(path) if path.exists() and step else []
    write_whole(path, "".join(f"{line}\n" for line in kept if step_of(line) <= step).encode())


def read(path: Path) -> dict[int, dict[str, Any]]:
    """All metrics by step; several lines of one step (training, validation) are merged, a later one wins."""
    steps: dict[int, dict[str, Any]] = {}
    for line in _lines(path):
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # cut off by a kill, or being written
        steps.setdefault(entry["step"], {}).update(entry["data"])
    return dict(sorted(steps.items()))


def running_mean(values: Sequence[float], window: int = WINDOW) -> list[float]:
    """Centred mean over ``window`` steps; at the ends over those that there are."""
    half = window // 2
    parts = [values[max(0, index - half) : index + half + 1] for index in range(len(values))]
    return [sum(part) / len(part) for part in parts]


def trend(values: Sequence[float]) -> list[float]:
    """What a curve shows: the running mean; the steps themselves while they are too few for one, which it would
    flatten.
    """
    return running_mean(values) if len(values) >= WINDOW else list(values)


def _lines(path: Path) -> list[str]:
    """The file's lines. Not splitlines: U+2028 and the like inside a JSON string are text."""
    # A kill may have cut a character in two; that line is cut off as a whole (`step_of`).
    return path.read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n")
