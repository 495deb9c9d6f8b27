"""Reads a folder of `main_eval run` without changing it; half a file is an error here, not something to fix."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from recipe.mer_r1.eval.records import SETTINGS
from recipe.mer_r1.eval.results import RESULTS, Origin
from recipe.mer_r1.files.errors import InputError, first_fault

Parsed = TypeVar("Parsed", bound=BaseModel)
MODES = ("slow", "fast", "slow_sampled", "fast_sampled")


class Answer(BaseModel):
    """What is read of a line: the clip, its true labels, the response and the words of its answer.

    `tokens` were sampled, the one that ends the turn among them where the response is `finished`; `failed` says why
    there is no response.
    """

    index: int
    name: str
    data_source: str
    prompt_sha256: str
    labels: list[str]
    response: str
    words: list[str]
    tokens: int
    finished: bool
    failed: str | None = None


class RunSettings(BaseModel):
    """What is read of settings.json."""

    model: str
    weights_sha256: str
    shard: Path
    media_root: Path | None
    corpus: str
    split: str
    n_shard: int
    clips_sha256: str
    temperature: float
    max_tokens: int
    max_prompt_length: int
    media: dict[str, Any]
    dtype: str
    seed: int
    wheels: dict[str, str]


class _Start(BaseModel):
    git: str | None
    versions: dict[str, str]


class _Scores(BaseModel):
    """What is read of scores.json."""

    starts: list[_Start]


@dataclass(frozen=True)
class Answers:
    """A folder's answers by mode, in the shard's order.

    `origins` are what made them, each once; none where scores.json is missing.
    """

    folder: Path
    settings: RunSettings
    origins: tuple[Origin, ...]
    modes: dict[str, list[Answer]]


def result_folders(folder: Path) -> list[Path]:
    """The folder itself; of an --out of `main_eval run`, which holds a result folder a corpus, all of these."""
    if not folder.is_dir() or any((folder / name).is_file() for name in (SETTINGS, RESULTS)):
        return [folder]
    inside = sorted(path.parent for name in (SETTINGS, RESULTS) for path in folder.glob(f"*/{name}"))
    return list(dict.fromkeys(inside)) or [folder]


def read_answers(folder: Path) -> Answers:
    """Read all modes of a folder.

    Raises:
        InputError: names the file and line at fault: no such folder, no settings.json, no answers, half a line, a clip
            twice.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    settings = folder / SETTINGS
    if not settings.is_file():
        raise InputError(f"{settings}: no such file; `main_eval run` writes it")
    modes = {mode: _lines(path) for mode in MODES if (path := folder / f"{mode}.jsonl").is_file()}
    if not modes:
        raise InputError(f"{folder}: no answers in this folder ({', '.join(f'{mode}.jsonl' for mode in MODES)})")
    scores = folder / "scores.json"
    made = _parse(_Scores, scores.read_bytes(), str(scores)).starts if scores.is_file() else []
    origins: list[Origin] = []
    for start in made:
        origin = Origin(git=start.git, versions=start.versions)
        if origin not in origins:
            origins.append(origin)
    return Answers(folder, _parse(RunSettings, settings.read_bytes(), str(settings)), tuple(origins), modes)


def _lines(path: Path) -> list[Answer]:
    *lines, rest = path.read_bytes().split(b"\n")
    if rest:
        raise InputError(f"{path}, line {len(lines) + 1}: cut off; run `main_eval run` again to continue")
    found = [_parse(Answer, line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]
    if not found:
        raise InputError(f"{path}: no answers yet; run `main_eval run`")
    seen: set[int] = set()
    for number, answer in enumerate(found, start=1):
        if answer.index in seen:
            raise InputError(f"{path}, line {number}: the clip {answer.name!r} appears twice; remove one of the lines")
        seen.add(answer.index)
    return sorted(found, key=lambda answer: answer.index)


def _parse(kind: type[Parsed], text: bytes, where: str) -> Parsed:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{where}: {first_fault(error)}") from error
