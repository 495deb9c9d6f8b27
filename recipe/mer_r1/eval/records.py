"""The files of an evaluation: one line a response, appended as they come; means; who and what was evaluated."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from recipe.mer_r1.eval.fingerprints import sha256
from recipe.mer_r1.files.alone import alone as only_process
from recipe.mer_r1.files.whole import write_whole
from recipe.mer_r1.method.answer import ONE_ANSWER, Answer, early_part, labels_of, parse
from recipe.mer_r1.method.reward import score_answer
from recipe.mer_r1.method.wheel import EmotionWheels

SETTINGS = "settings.json"
LOCK = ".lock"
WORKERS = "worker-*"
"""Folders inside, in which workers keep their answers until they are joined."""
PLACES = ("model", "shard", "media_root")
"""Settings that say where things lie; what lies there is told by hashes, so that folders may be moved."""
_MEANS = ("recall", "precision", "f1", "format", "num_words", "categories", "tokens", "finished")

_SHARES = {
    "answer_unknown": lambda line: bool(line["num_words"]) and not line["categories"],
    "thought_empty": lambda line: "failed" not in line and not parse(line["response"]).think,
}
"""Shares of answers, by what a line says."""


class InUseError(ValueError):
    """Another process writes into the folder."""


class OtherSettingsError(ValueError):
    """The folder holds answers made with other settings."""


Key = tuple[int, int]
"""Which answer of a file: the row of the shard, and the number of the sample, from 0."""
Line = TypeVar("Line")


def key_of(line: Any) -> Key:
    """Of a line; version 0.1.0 wrote no number of the sample, which is then 0."""
    return line["index"], line.get("sample", 0)


def record(
    row: Mapping[str, Any],
    index: int,
    response: str,
    wheels: EmotionWheels,
    sample: int = 0,
    form: str = ONE_ANSWER,
) -> dict[str, Any]:
    """A response as a line of the file: the clip, the words of the (last) answer and their scores.

    `sample` numbers the answers to a clip from 0, `wheels` is the number of wheels on which the labels map,
    `categories` the mean number of the answer's categories on a wheel.
    """
    labels = labels_of(row["reward_model"])
    return {
        "index": index,
        "sample": sample,
        "name": row["extra_info"]["name"],
        "data_source": row["data_source"],
        "prompt_sha256": sha256(row["prompt"]),
        "labels": labels,
        "response": response,
        **_scores(parse(response, form), labels, wheels),
    }


def _scores(answer: Answer, labels: list[str], wheels: EmotionWheels) -> dict[str, Any]:
    scores, bits = score_answer(answer, labels, wheels), wheels.mask(answer.words)
    counts = [(bits & mask).bit_count() for mask in wheels.wheel_masks()]
    return {
        "words": answer.words,
        "recall": scores.recall,
        "precision": scores.precision,
        "f1": scores.f1,
        "format": scores.format,
        "wheels": scores.wheels,
        "num_words": len(answer.words),
        "categories": sum(counts) / len(counts),
    }


def first_answer(line: Mapping[str, Any], wheels: EmotionWheels) -> dict[str, Any]:
    """The fast line of an answer_think_answer response, made of its slow line: its first answer is the fast answer.

    `response` is the part up to the end of the first answer. All else that is not about the answer's words is of the
    complete response: `format`, `tokens`, `finished`, `failed`.
    """
    early = early_part(line["response"])
    scores = _scores(parse(early), line["labels"], wheels)
    return {**line, "response": early, **scores, "format": line["format"]}


def failure(
    row: Mapping[str, Any],
    index: int,
    reason: str,
    wheels: EmotionWheels,
    sample: int = 0,
    form: str = ONE_ANSWER,
) -> dict[str, Any]:
    """A clip without a response as a line of the file: it counts as a wrong answer, and says why."""
    return record(row, index, "", wheels, sample, form) | {"tokens": 0, "finished": False, "failed": reason}


def alone(folder: Path) -> AbstractContextManager[None]:
    """While inside, no other process writes answers or confidences into the folder; it is made where it is missing.

    Raises:
        InUseError: another process does.
    """
    refusal = f"{folder}: another `main_eval` command writes to this folder; wait for its end, or choose another folder"
    return only_process(folder / LOCK, InUseError(refusal))


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder ours, or go on in one that was begun with the same settings.

    Raises:
        OtherSettingsError: names the settings that differ.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SETTINGS
    if path.exists():
        previous = json.loads(path.read_text(encoding="utf-8"))
        previous = {"form": ONE_ANSWER, **previous}  # folders of version 0.1.0 do not name it
        keys = sorted({*previous, *settings} - {*PLACES})
        differing = [key for key in keys if previous.get(key) != settings.get(key)]
        if differing:
            shown = "; ".join(f"{key}: {previous.get(key)} there, {settings.get(key)} here" for key in differing)
            raise OtherSettingsError(
                f"{folder} contains answers made with other settings ({shown}). Choose another --out."
            )
    write_whole(path, json.dumps(settings, indent=1).encode() + b"\n")


def read(path: Path) -> dict[Key, dict[str, Any]]:
    """The lines written so far, by row and sample number; a line cut off by a kill is removed from the file.

    To be called by the process that has the folder to itself (:func:`alone`).
    """
    if not path.exists():
        return {}
    # Bytes, and not splitlines: a reply may hold U+2028 or U+0085, and a kill may have cut a character in two.
    content = path.read_bytes()
    *lines, rest = content.split(b"\n")
    if rest:
        os.truncate(path, len(content) - len(rest))
    records = (json.loads(line) for line in lines)
    return {key_of(record): record for record in records}


def join(folder: Path) -> None:
    """Bring the answers that workers have left in folders of their own into this folder's files, in the shard's order.

    A kill loses none: the workers' folders are removed after the files are complete. To be called as :func:`read`.
    """
    left = sorted(folder.glob(f"{WORKERS}/"))
    for name in sorted({path.name for own in left for path in own.glob("*.jsonl")}):
        lines: dict[Key, dict[str, Any]] = {}
        for path in (*(own / name for own in left), folder / name):
            lines |= read(path)
        rewrite(folder / name, (lines[key] for key in sorted(lines)))
    for own in left:
        shutil.rmtree(own, ignore_errors=True)  # what may be left is joined again, and changes nothing


def by_clip(lines: Iterable[Line], of: Callable[[Line], Key] = key_of) -> list[list[Line]]:
    """The answers of each clip by the number of the sample; clips in the order of the shard.

    Args:
        of: a line's row and sample number.
    """
    clips: dict[int, list[Line]] = {}
    for line in sorted(lines, key=of):
        clips.setdefault(of(line)[0], []).append(line)
    return list(clips.values())


def rewrite(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write the whole file anew; a kill leaves the old one or the new one."""
    write_whole(path, "".join(map(_line, records)).encode())


def append(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Add lines; they are on disk when this returns."""
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.writelines(map(_line, records))


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def means(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the clips whose labels map on a wheel, their number `n`, and that of the others, `n_unmapped`.

    `answer_unknown` is the share of answers that have words, but none that a wheel knows; `thought_empty` that of
    responses without a thought. A clip that failed counts as neither.

    A clip with several answers counts once, with the mean over its answers; `samples` is the number of answers per
    clip. `n_failed` of the `n` miss a response, which counts as wrong. `f1_stderr` is the standard error over clips of
    the mean F1. Without any clip the means are None.
    """
    clips = by_clip(records)
    scored = [answers for answers in clips if answers[0]["wheels"]]
    n = len(scored)
    values = {name: [_mean(answers, name) for answers in scored] for name in _MEANS}
    values |= {name: [_share(answers, holds) for answers in scored] for name, holds in _SHARES.items()}
    result: dict[str, Any] = {name: sum(found) / n if n else None for name, found in values.items()}
    spread = sum((f1 - result["f1"]) ** 2 for f1 in values["f1"])
    result["f1_stderr"] = math.sqrt(spread / (n - 1) / n) if n > 1 else None
    failed = sum(any("failed" in answer for answer in answers) for answers in scored)
    samples = max(map(len, clips), default=0)
    return {**result, "n": n, "n_failed": failed, "n_unmapped": len(clips) - n, "samples": samples}


def _mean(answers: Sequence[Mapping[str, Any]], name: str) -> float:
    return sum(answer[name] for answer in answers) / len(answers)


def _share(answers: Sequence[Mapping[str, Any]], holds: Callable[[Mapping[str, Any]], bool]) -> float:
    return sum(map(holds, answers)) / len(answers)
