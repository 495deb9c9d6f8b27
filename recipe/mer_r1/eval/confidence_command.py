"""Compute the category log-confidence (Eq. 1, 2) of the answers of a folder, for the figures of `main_eval report`.

    python -m recipe.mer_r1.main_eval confidence RESULT_DIR …

Reads RESULT_DIR/slow.jsonl and fast.jsonl. Computes, with the model that answered (see settings.json), the model's
confidence in every category at the start of each answer. Writes slow.confidence.jsonl and fast.confidence.jsonl, one
line per clip, while it runs; run the same command again to continue an interrupted run. The preset sets the device and
the precision; clips are decoded with the settings of the answers.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from data_prep.progress import progress
from recipe.mer_r1.eval import records
from recipe.mer_r1.eval.answers import Answer, Answers, folders_of_tasks, read_answers
from recipe.mer_r1.eval.clip_sets import load_clip_sets
from recipe.mer_r1.eval.confidence_files import FORMS, Line, Meta, check, claim, confidence_path, line
from recipe.mer_r1.eval.corpora import task_of
from recipe.mer_r1.eval.fingerprints import weights_sha256
from recipe.mer_r1.eval.generate import load_preset
from recipe.mer_r1.eval.results import Reading
from recipe.mer_r1.files import exits
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.method.answer import ONE_ANSWER
from recipe.mer_r1.method.token_sets import SHARED_TOKENS
from recipe.mer_r1.method.wheel import EmotionWheels, load_wheels
from recipe.mer_r1.run import launch

TASKS = ("ew", "hit")
"""Of corpora whose labels are emotions."""


@dataclass(frozen=True)
class Job:
    """A folder whose answers can be read; `todo` are form and answer of those that were not yet, clip by clip."""

    answers: Answers
    preset: DictConfig
    rows: Any
    todo: list[tuple[str, Answer]]
    done: int


def parser(prog_name: str) -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=prog_name, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument(
        "folders", nargs="+", type=Path, metavar="DIR", help="--out folder of `main_eval run`, or one corpus in it"
    )
    result.add_argument("--wheels", help="official wheels: a folder, or wheel_mapping.npz; default: the built-in table")
    result.add_argument(
        "--shared-tokens", choices=SHARED_TOKENS, default="split", help="as mer_r1.confidence.shared_tokens in RL"
    )
    result.add_argument("--floor", type=float, default=-20.0, help="lowest log-confidence in nats (default -20)")
    result.add_argument("--preset", default="tiny", help="conf/preset/NAME.yaml: device, attention, mixed_precision")
    result.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="change keys of the preset: device=cuda …"
    )
    return result


def app(arguments: Sequence[str], prog_name: str = "main_eval confidence") -> None:
    """The subcommand. Exits with 2 and a message where the input is at fault."""
    chosen = parser(prog_name).parse_args(arguments)
    with exits.input_faults(prog_name, ValueError, OSError, FloatingPointError):  # MediaError and others: ValueErrors
        run(chosen)


def run(arguments: argparse.Namespace) -> None:
    """Check all folders, then read one after the other."""
    preset = load_preset(arguments.preset, arguments.set)
    launch.prepare_environment(preset.device, ".")  # offline: every model is a folder here
    wheels = load_wheels(arguments.wheels)
    found = (one for folder in arguments.folders for one in folders_of_tasks(folder, TASKS, "confidence"))
    folders = [*dict.fromkeys(found)]
    with ExitStack() as held:
        for folder in folders:
            if (folder / records.SETTINGS).is_file():  # else `prepare` names what is missing, and nothing is made
                held.enter_context(records.alone(folder))
        jobs = [prepare(folder, preset, wheels, arguments.shared_tokens, arguments.floor) for folder in folders]
        for job in jobs:
            _read(job, wheels, arguments)


def prepare(folder: Path, preset: DictConfig, wheels: EmotionWheels, shared_tokens: str, floor: float) -> Job:
    """Check a folder, its model and its clips, and find what is still to read.

    To be called by the process that has the folder to itself (`records.alone`).

    Raises:
        InputError: the folder cannot be read, its answers were made anew, its model is gone or another now, or its
            corpus has no emotion labels.
    """
    answers = read_answers(folder)
    settings = answers.settings
    forms = {form: answers.modes[form] for form in FORMS if form in answers.modes}
    if not forms:
        raise InputError(f"{folder}: has no slow.jsonl or fast.jsonl; make them with `main_eval run`")
    if settings.form != ONE_ANSWER:
        raise InputError(
            f"{folder}: the answers have the form {settings.form}. Slow and fast confidence are those of an answer "
            "behind a thought and behind an emptied thought (Eq. 8), which this form does not have; remove this folder "
            "from the command"
        )
    if task_of(settings.corpus) not in TASKS:
        raise InputError(
            f"{folder}: clips of {settings.corpus} have no emotion categories; remove this folder from the command"
        )
    if weights_sha256(Path(settings.model)) != settings.weights_sha256:
        raise InputError(
            f"{folder}: the weights of {settings.model} are missing or are not those that answered; restore them, "
            "or answer again with `main_eval run`"
        )
    preset = preset.copy()
    preset.media = OmegaConf.merge(preset.media, settings.media)
    (clips,) = load_clip_sets([settings.shard], settings.media_root, preset.media.use_audio_in_video, None)
    if clips.sha256 != settings.clips_sha256:
        raise InputError(
            f"{settings.shard}: was built again and has other clips than {folder}; answer again with `main_eval run`"
        )
    meta = Meta(
        wheels=wheels.identity,
        weights_sha256=settings.weights_sha256,
        reading=Reading(
            words="mapped",
            shared_tokens=shared_tokens,
            floor=floor,
            precision=preset.mixed_precision.param_dtype,
        ),
    )
    todo, done = [], 0
    for form, lines in forms.items():
        path = folder / f"{form}.jsonl"
        claim(path, meta)
        there = {index: Line(**found) for (index, _), found in records.read(confidence_path(path)).items()}
        done += len(check(there, lines, confidence_path(path)))
        todo += [(form, answer) for answer in lines if answer.index not in there and answer.failed is None]
    # Both forms of a clip one after the other: it is decoded once.
    return Job(answers, preset, clips.rows, sorted(todo, key=lambda one: one[1].index), done)


def _read(job: Job, wheels: EmotionWheels, arguments: argparse.Namespace) -> None:
    folder = job.answers.folder
    if not job.todo:
        print(f"{folder}: the confidences of all {job.done} answers are there already")
        return
    from recipe.mer_r1.eval.category_confidence import ConfidenceReader

    reader = ConfidenceReader(job.answers.settings.model, job.preset, wheels, arguments.shared_tokens, arguments.floor)
    print(f"{folder}: {reader.sets}", flush=True)
    respelt = 0
    with progress(str(folder), job.done + len(job.todo), job.done) as tell:
        for form, answer in job.todo:
            found = reader(job.rows[answer.index], answer.response)
            respelt += _is_respelt(reader.tokens(answer.response), form, answer, reader)
            kept = line(answer, found.own, found.emptied, found.signals)
            records.append(confidence_path(folder / f"{form}.jsonl"), [kept.model_dump()])
            tell()
    print(f"{folder}: confidences of {len(job.todo)} answers computed, {job.done} were there already")
    if respelt:
        print(
            f"{folder}: for {respelt} answers the sampled tokens differ from the tokenizer's tokens of the same text; "
            "their confidences use the tokenizer's tokens"
        )


def _is_respelt(ids: Sequence[int], form: str, answer: Answer, reader: Any) -> bool:
    """Whether the number of tokens gives away that other ones were sampled; one of them ended the turn."""
    prefix = len(reader.prefix_ids) if form == "fast" else 0
    return len(ids) - prefix + answer.finished != answer.tokens
