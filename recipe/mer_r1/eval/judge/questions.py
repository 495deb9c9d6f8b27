"""What is to be judged: answers of `main_eval run` joined with their shard's rows and the audio clues."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from data_prep.readers.mme_emotion import TASKS
from recipe.mer_r1.files.errors import SEVERAL_ANSWERS, InputError

_MEDIA_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".flv", ".wav", ".mp3", ".flac", ".m4a")
_SHOWN = 5


@dataclass(frozen=True)
class Question:
    """An answer and what it is judged by."""

    index: int
    """Row of the shard."""
    name: str
    task: str
    labels: tuple[str, ...]
    response: str
    clue: str
    clip: str
    """Path of the video, or a reference to it inside the shard."""
    failed: str | None = None
    """Why there is no response."""


def read_answers(path: Path) -> list[dict[str, Any]]:
    """The lines of slow.jsonl or fast.jsonl, in the shard's order.

    Raises:
        InputError: no such file, a line of another form, several answers per clip, or a row that is answered twice.
    """
    answers: dict[int, dict[str, Any]] = {}
    # Not splitlines: a response may hold U+2028.
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            answer = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: is not JSON ({error}); let `main_eval run` finish") from error
        wanted = {"index": int, "name": str, "labels": list, "response": str}
        if not isinstance(answer, dict) or any(type(answer.get(key)) is not kind for key, kind in wanted.items()):
            raise InputError(f"{where}: needs the keys {', '.join(wanted)}, as `main_eval run` writes them")
        if answer.get("sample"):
            raise InputError(f"{path} {SEVERAL_ANSWERS}")
        if answer["index"] in answers:
            raise InputError(f"{where}: row {answer['index']} is answered twice; remove one of the lines")
        answers[answer["index"]] = answer
    if not answers:
        raise InputError(f"{path}: no answers in this file; run `main_eval run`")
    return [answers[index] for index in sorted(answers)]


def read_clues(paths: Iterable[Path]) -> dict[str, str]:
    """Clip → description of its sound, from JSON lists of {"video_id", "audio_clue"}; of a folder, all its *.json.

    Raises:
        InputError: no such file, an item of another form, or two clues for a clip that differ.
    """
    clues: dict[str, str] = {}
    for path in paths:
        files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        if not files:
            raise InputError(f"--clues {path}: no *.json in this folder")
        for file in files:
            for name, clue in _clues(file):
                if clues.setdefault(name, clue) != clue:
                    raise InputError(
                        f"{file}: this clue for {name!r} differs from an earlier clue; give the files of one version"
                    )
    return clues


def _clues(path: Path) -> Iterable[tuple[str, str]]:
    try:
        items = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: is not JSON ({error})") from error
    if not isinstance(items, list):
        raise InputError(f"{path}: is not a list of clues")
    for number, item in enumerate(items, start=1):
        pair = [item.get(key) for key in ("video_id", "audio_clue")] if isinstance(item, dict) else []
        if len(pair) != 2 or not all(isinstance(value, str) for value in pair):
            raise InputError(f"{path}, item {number}: needs the strings video_id and audio_clue")
        yield clip_key(pair[0]), pair[1].strip()


def clip_key(name: str) -> str:
    """A clip's name without the suffix of a media file: question and clue files need not agree on it."""
    path = PurePosixPath(name.strip())
    return str(path.with_suffix("") if path.suffix.lower() in _MEDIA_SUFFIXES else path)


def read_rows(shard: Path, media_root: Path | None = None) -> list[dict[str, Any]]:
    """The shard's rows; whether the clips exist is found out when they are decoded.

    Raises:
        InputError: no such shard, or one without the columns.
        ShardError: its clips cannot be resolved.
    """
    from verl_ext.data.shard_media import read_table

    if not shard.is_file():
        raise InputError(f"--shard {shard}: no such file")
    table = read_table(shard, media_root)
    columns = ["videos", "reward_model", "extra_info"]
    if missing := [column for column in columns if column not in table.column_names]:
        raise InputError(
            f"--shard {shard}: column {', '.join(missing)} is missing; make shards with `python -m data_prep`"
        )
    return table.select(columns).to_pylist()


def join(
    answers: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], clues: Mapping[str, str]
) -> list[Question]:
    """Each answer with its row and clue.

    Raises:
        InputError: an answer is not of this shard, a row has no task of the benchmark, or clips have no clue.
    """
    questions, unheard = [], []
    for answer in answers:
        row = rows[answer["index"]] if 0 <= answer["index"] < len(rows) else None
        truth = row and ((row["extra_info"] or {}).get("name"), row["reward_model"]["ground_truth"])
        if row is None or truth != (answer["name"], answer["labels"]):
            raise InputError(
                f"row {answer['index']}, {answer['name']!r}: the shard has {truth}; give the shard that was answered"
            )
        task = row["extra_info"].get("group")
        if task not in TASKS:
            raise InputError(
                f"row {answer['index']}: its group {task!r} is not a task of MME-Emotion: {', '.join(TASKS)}"
            )
        if not answer["labels"] or not row["videos"]:
            raise InputError(f"row {answer['index']}, {answer['name']!r}: the label or the video is missing")
        clue = clues.get(clip_key(answer["name"]))
        if not clue:
            unheard.append(answer["name"])
            continue
        questions.append(
            Question(
                answer["index"],
                answer["name"],
                task,
                tuple(answer["labels"]),
                answer["response"],
                clue,
                row["videos"][0],
                answer.get("failed"),
            )
        )
    if unheard:
        shown = ", ".join(unheard[:_SHOWN])
        raise InputError(f"{len(unheard)} clips have no audio clue ({shown} …); give all clue files with --clues")
    return questions


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 ({error})") from error
