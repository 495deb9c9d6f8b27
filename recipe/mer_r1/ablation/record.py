"""The record of a run or a start: docs/results/ablation/ROW-SEED.json, all that the page is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from recipe.mer_r1.files.errors import InputError, first_fault
from recipe.mer_r1.files.whole import write_whole

VERSION = 1
FINISHED, FAILED = "finished", "failed"
SCORES = ("f1", "recall", "precision")
WELL_FORMED = "f1_well_formed"
"""That are kept clip by clip; the second is F1 of the well-formed answers alone."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Git(_Part):
    """The commit that trained (None outside a checkout), and whether files differed from it."""

    commit: str | None
    dirty: bool


class FormMetrics(_Part):
    """Means over the test clips of one mode; each clip's value is the mean over its samples.

    Attributes:
        n: clips whose labels map on a wheel; the means are over these.
        samples: answers for each clip.
        f1, recall, precision: EW scores, in 0..1.
        f1_stderr: standard error of F1 over clips.
        categories: of an answer on a wheel.
        words: of an answer.
        format: share of well-formed responses.
        n_failed: clips without an answer; they count as wrong.
    """

    n: int
    samples: int
    f1: float
    recall: float
    precision: float
    f1_stderr: float | None
    categories: float
    words: float
    format: float
    tokens: float
    n_failed: int


class Confidence(_Part):
    """Eq. 2 of greedy answers, in nats: means over the clips where each is defined."""

    truth: float | None
    margin: float | None
    n: int


class Metrics(_Part):
    """Of the test clips; `forms` by mode, `confidence` by form (slow, fast)."""

    forms: dict[str, FormMetrics]
    confidence: dict[str, Confidence] = {}
    retained_hit: float | None = None


class Training(_Part):
    """Of the training run: its steps, the median time of a step, the time of all attempts, and curves by step."""

    steps: int
    seconds_per_step: float | None
    seconds: float
    curves: dict[str, list[float | None]] = {}


class Clips(_Part):
    """Scores of each clip, mean over its samples, by mode and score; None where its labels map on no wheel."""

    names: list[str]
    forms: dict[str, dict[str, list[float | None]]]


class Record(_Part):
    """One run.

    Attributes:
        row: of the table; "sft" or "sft_START" for the SFT model that RL starts from.
        experiment: of conf/experiment/; None for a start.
        state: finished or failed.
        reason, log: of a failed run; the last relevant lines of its log.
        settings, settings_sha256: all that decides the results; a record of other settings is stale.
        start_sha256: of the SFT model's weights (of a start: its own); runs of one seed with the same are paired.
        notes: what is missing, and why.
    """

    version: Literal[1] = VERSION
    row: str
    experiment: str | None
    seed: int
    state: Literal["finished", "failed"]
    reason: str = ""
    log: list[str] = []
    git: Git
    versions: dict[str, str]
    overrides: list[str]
    settings_sha256: str
    settings: dict[str, Any]
    start_sha256: str | None = None
    notes: list[str] = []
    metrics: Metrics | None = None
    training: Training | None = None
    clips: Clips | None = None


def path_of(results: Path, name: str) -> Path:
    """Where the record of a run is kept."""
    return results / f"{name}.json"


def write(results: Path, name: str, record: Record) -> None:
    """Write the record as a whole."""
    write_whole(path_of(results, name), (_text(record.model_dump(mode="json")) + "\n").encode())


def read(path: Path) -> Record | None:
    """The record in a file; None where there is none.

    Raises:
        InputError: the file is no record of this version.
    """
    if not path.is_file():
        return None
    try:
        return Record.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error)}; make the run again, or remove the file") from error


def read_all(results: Path) -> list[Record]:
    """All records of a folder, by file name."""
    return [record for path in sorted(results.glob("*.json")) if (record := read(path)) is not None]


def _text(value: Any, indent: str = "") -> str:
    """JSON with a line for each key, and a list on one line: small files, and readable differences."""
    if isinstance(value, dict) and value:
        inner = indent + " "
        lines = [f"{inner}{json.dumps(str(key))}: {_text(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, list):
        return "[" + ",".join(_text(item, indent) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
