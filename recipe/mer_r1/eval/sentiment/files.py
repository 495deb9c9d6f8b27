"""The files of a mapped set of answers: the sentiments beside them, and their FILE.meta.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from recipe.mer_r1.eval.sentiment.mapped import Mapped
from recipe.mer_r1.eval.sentiment.meta import Meta
from recipe.mer_r1.files.errors import InputError, first_fault
from recipe.mer_r1.files.labels import Source, read
from recipe.mer_r1.files.whole import write_whole


def sentiment_path(answers: Path) -> Path:
    """Where the sentiments of slow.jsonl lie: slow.sentiment.jsonl beside it."""
    return answers.with_suffix(".sentiment.jsonl")


def meta_path(sentiments: Path) -> Path:
    """Who mapped them."""
    return sentiments.with_suffix(".meta.json")


def write(path: Path, mapped: Sequence[Mapped], meta: Meta) -> None:
    """Write FILE.jsonl and FILE.meta.json."""
    lines = (json.dumps(one.line(), ensure_ascii=False) + "\n" for one in mapped)
    write_whole(path, "".join(lines).encode())
    write_whole(meta_path(path), meta.model_dump_json(indent=1).encode() + b"\n")


def read_sentiments(answers: Path) -> tuple[dict[str, str], Meta] | None:
    """Clip → sentiment of a file of answers, without those that had no reply; None where it was never mapped.

    Raises:
        InputError: one of the two files is missing or damaged, or they are of answers that have changed since.
    """
    path = sentiment_path(answers)
    about = meta_path(path)
    if not path.is_file() and not about.is_file():
        return None
    again = "run `main_eval sentiment` again"
    if not about.is_file():
        raise InputError(f"{about}: no such file, but {path.name} needs it; {again}")
    try:
        meta = Meta.model_validate_json(about.read_bytes())
    except ValidationError as error:
        raise InputError(f"{about}: {first_fault(error)}; {again}") from error
    if meta.answers_sha256 != hashlib.sha256(answers.read_bytes()).hexdigest():
        raise InputError(f"{path}: {answers.name} has changed since; {again}")
    # Without any reply the file is empty, which `read` refuses.
    found = read(Source(path, "text", predictions=True)) if meta.counts["n"] > meta.counts["n_failed"] else {}
    if len(found) + meta.counts["n_failed"] != meta.counts["n"]:
        raise InputError(f"{path}: the number of sentiments ({len(found)}) does not match {about.name}; {again}")
    return found, meta
