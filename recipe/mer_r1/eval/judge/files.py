"""Where a judge's files of a set of answers lie, and how they are read again."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from recipe.mer_r1.eval.errors import InputError, first_fault
from recipe.mer_r1.eval.judge.results import Results


def judge_folder(answers: Path) -> Path:
    """The judge's folder of slow.jsonl: slow.judge beside it."""
    return answers.with_suffix(".judge")


def read_judged(answers: Path) -> Results | None:
    """A file of answers as it was judged; None where it was not, or not to the end.

    Raises:
        InputError: results.json is damaged, or is of answers that have changed since.
    """
    path = judge_folder(answers) / "results.json"
    if not path.is_file():
        return None
    again = "run `main_eval judge` again, which asks for what is new alone"
    try:
        found = Results.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error)}; {again}") from error
    if found.answers_sha256 != hashlib.sha256(answers.read_bytes()).hexdigest():
        raise InputError(f"{path}: is of other answers than {answers.name} holds now; {again}")
    return found
