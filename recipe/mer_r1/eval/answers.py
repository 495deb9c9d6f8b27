"""Reads a folder of `main_eval run` without changing it; half a file is an error here, not something to fix."""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from recipe.mer_r1.eval.answer_modes import MODES
from recipe.mer_r1.eval.corpora import task_of
from recipe.mer_r1.eval.records import SETTINGS, by_clip
from recipe.mer_r1.eval.results import RESULTS, Origin
from recipe.mer_r1.files.errors import InputError, first_fault
from recipe.mer_r1.method.answer import ONE_ANSWER

Parsed = TypeVar("Parsed", bound=BaseModel)


class Answer(BaseModel):
    """What is read of a line: the clip, its true labels, the response and the words of its answer.

    `sample` numbers the answers to a clip; a line of version 0.1.0 has no such number and is the only answer.

    `tokens` were sampled, the one that ends the turn among them where the response is `finished`; `failed` says why
    there is no response.
    """

    index: int
    sample: int = 0
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
    form: str = ONE_ANSWER
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
    """A folder's answers by mode, in the shard's order, the samples of a clip together.

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


def folders_of_tasks(folder: Path, tasks: Container[str], command: str) -> list[Path]:
    """As :func:`result_folders`; of an --out of several corpora, those that a command is for. Prints the others.

    Raises:
        InputError: none of them is.
    """
    inside = result_folders(folder)
    if inside == [folder]:
        return inside
    found = [one for one in inside if task_of(_corpus(one)) in tasks]
    if not found:
        names = ", ".join(one.name for one in inside)
        raise InputError(f"{folder}: `main_eval {command}` has nothing to do for its corpora ({names})")
    if others := [one.name for one in inside if one not in found]:
        print(f"{folder}: left out, because `main_eval {command}` is not for them: {', '.join(others)}")
    return found


def _corpus(folder: Path) -> str:
    """The corpus of a result folder; its name where settings.json does not say it."""
    try:
        return str(json.loads((folder / SETTINGS).read_text(encoding="utf-8"))["corpus"])
    except (OSError, ValueError, KeyError, TypeError):
        return folder.name


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
    seen: set[tuple[int, int]] = set()
    for number, answer in enumerate(found, start=1):
        if (answer.index, answer.sample) in seen:
            again = f" with sample {answer.sample}" if answer.sample else ""
            raise InputError(
                f"{path}, line {number}: the clip {answer.name!r} appears twice{again}; remove one of the lines"
            )
        seen.add((answer.index, answer.sample))
    return sorted(found, key=lambda answer: (answer.index, answer.sample))


def by_sample(lines: Sequence[Answer], path: Path) -> list[list[Answer]]:
    """The answers of a file in parts: the first answer to each clip, the second to each clip and so on.

    Clips are in the order of the shard.

    Args:
        lines: at least one.
        path: of the file.

    Raises:
        InputError: some clips have more answers than others.
    """
    clips = by_clip(lines, lambda line: (line.index, line.sample))
    most = max(map(len, clips))
    if few := [clip for clip in clips if len(clip) < most]:
        raise InputError(
            f"{path}: the clip {few[0][0].name!r} has {len(few[0])} answers, others have {most}; finish "
            f"`main_eval run --samples {most}`"
        )
    if any([line.sample for line in clip] != [*range(most)] for clip in clips):
        raise InputError(f"{path}: the samples of each clip must be numbered from 0 to {most - 1}; answer again")
    return [list(part) for part in zip(*clips, strict=True)]


def has_samples(path: Path) -> bool:
    """Whether a file of `main_eval run` holds several answers per clip; lines that are not JSON are passed over."""
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
        except ValueError:  # the command that reads the file names the line
            continue
        if isinstance(row, dict) and row.get("sample"):
            return True
    return False


def _parse(kind: type[Parsed], text: bytes, where: str) -> Parsed:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{where}: {first_fault(error)}") from error
