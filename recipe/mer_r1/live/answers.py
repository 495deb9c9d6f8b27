"""A few answers of the newest validation, as verl dumps them in RUN_DIR/validation/STEP.jsonl."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """A reply with the prefix that it was made to begin with, the true labels, and its F1."""

    reply: str
    labels: str
    f1: float


def newest(run_dir: Path, count: int) -> tuple[int, list[Sample]]:
    """(step, its first answers); (0, []) where the run has not validated. Half a line at the end is left out."""
    files = {int(file.stem): file for file in (run_dir / "validation").glob("*.jsonl") if file.stem.isdigit()}
    if not files:
        return 0, []
    step = max(files)
    with files[step].open(encoding="utf-8", errors="replace", newline="\n") as file:
        lines = [line for line in islice(file, count) if line.endswith("\n")]
    return step, [_sample(json.loads(line)) for line in lines]


def _sample(row: dict) -> Sample:
    prefix = row["input"].rpartition("assistant\n")[2]
    return Sample(prefix + row["output"], ", ".join(row["gts"]), row["f1"])
