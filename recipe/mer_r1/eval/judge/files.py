"""Where a judge's files of a set of answers lie, and how they are written and read again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from recipe.mer_r1.eval.judge.results import Results
from recipe.mer_r1.eval.judge.verdict import Verdict
from recipe.mer_r1.files.errors import InputError, first_fault
from recipe.mer_r1.files.whole import write_whole

RESULTS, VERDICTS = "results.json", "verdicts.jsonl"


def judge_folder(answers: Path) -> Path:
    """The judge's folder of slow.jsonl: slow.judge beside it."""
    return answers.with_suffix(".judge")


def read_judged(answers: Path) -> Results | None:
    """A file of answers as it was judged; None where it was not, or not to the end.

    Raises:
        InputError: results.json is damaged, or is of answers that have changed since.
    """
    path = judge_folder(answers) / RESULTS
    if not path.is_file():
        return None
    again = "run `main_eval judge` again; it only asks about new answers"
    try:
        found = Results.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error)}; {again}") from error
    if found.answers_sha256 != hashlib.sha256(answers.read_bytes()).hexdigest():
        raise InputError(f"{path}: {answers.name} has changed since; {again}")
    return found


def write_judged(folder: Path, results: Results, verdicts: Sequence[Verdict]) -> None:
    """Write both files; results.json comes last and stands for a judging that has ended."""
    write_whole(folder / VERDICTS, "".join(f"{verdict.model_dump_json()}\n" for verdict in verdicts).encode())
    write_whole(folder / RESULTS, results.model_dump_json(indent=1).encode() + b"\n")


def read_verdicts(answers: Path) -> list[Verdict]:
    """The verdicts on a file of answers that `read_judged` has found.

    Raises:
        InputError: verdicts.jsonl is missing or damaged.
    """
    path = judge_folder(answers) / VERDICTS
    try:
        return [Verdict.model_validate_json(line) for line in path.read_bytes().split(b"\n") if line]
    except (OSError, ValidationError) as error:
        fault = first_fault(error) if isinstance(error, ValidationError) else error.strerror
        raise InputError(f"{path}: {fault}; run `main_eval judge` again; it asks nothing twice") from error
