"""The two sides of a comparison: which answers of which folders, refused where they cannot be paired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recipe.mer_r1.eval.answer_modes import MODES
from recipe.mer_r1.eval.answers import Answers, read_answers, result_folders
from recipe.mer_r1.eval.measure import measure
from recipe.mer_r1.eval.results import FolderResults, why_not_comparable
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.files.named import split_name
from recipe.mer_r1.method.wheel import EmotionWheels


@dataclass(frozen=True)
class Side:
    """One side.

    Attributes:
        name: how it is called.
        folder: as given.
        mode: the answers that are compared; None: each mode that both sides have.
        answers, results: by corpus.
    """

    name: str
    folder: Path
    mode: str | None
    answers: dict[str, Answers]
    results: dict[str, FolderResults]


@dataclass(frozen=True)
class Part:
    """Answers of one corpus that are paired, first side first."""

    corpus: str
    answers: tuple[Answers, Answers]
    modes: tuple[str, str]


def read_side(text: str, wheels: EmotionWheels, *, wheels_named: bool) -> Side:
    """A side from `[NAME=]DIR[:MODE]`.

    Args:
        wheels_named: whether the user chose the wheels; else they must be those of the run.

    Raises:
        InputError: no such folder, no answers in it, or a mode that it does not have.
    """
    name, place = split_name(text)
    head, _, last = place.rpartition(":")
    mode = last if head and last in MODES else None
    folder = Path(head if mode else place)
    answers, results = {}, {}
    for one in result_folders(folder):
        found = read_answers(one)
        corpus = found.settings.corpus
        if corpus in answers:
            raise InputError(f"{folder}: has two folders of {corpus}; give one of them")
        answers[corpus] = found
        results[corpus] = measure(one, wheels, bootstrap=0, seed=0, wheels_named=wheels_named)
    if mode and not any(mode in found.modes for found in answers.values()):
        raise InputError(f"{folder}: has no {mode} answers; `main_eval run --mode {mode}` makes them")
    return Side(name or _model_of(next(iter(answers.values()))), folder, mode, answers, results)


def _model_of(answers: Answers) -> str:
    model = Path(answers.settings.model)
    return model.parent.name if model.name == "model" else model.name


def pairs(first: Side, second: Side) -> dict[tuple[str, str], list[Part]]:
    """The modes of both sides → the corpora that both have in these modes.

    Raises:
        InputError: the two have no corpus with these modes in common, or one that cannot be compared: other clips,
            prompts, labels, wheels or settings. Names what differs.
    """
    found: dict[tuple[str, str], list[Part]] = {}
    for modes in _modes(first, second):
        for corpus in first.answers:
            if corpus not in second.answers:
                continue
            answers = first.answers[corpus], second.answers[corpus]
            if all(mode in one.modes for one, mode in zip(answers, modes, strict=True)):
                _check(first, second, corpus, modes)
                found.setdefault(modes, []).append(Part(corpus, answers, modes))
    if not found:
        here, there = (f"{', '.join(_has(side)) or 'nothing'} in {side.folder}" for side in (first, second))
        raise InputError(
            f"nothing to compare: {here}, {there}. Both sides must answer the same corpus in the same mode; name two "
            "modes with DIR:MODE"
        )
    return found


def _modes(first: Side, second: Side) -> Sequence[tuple[str, str]]:
    if first.mode is None and second.mode is None:
        return [(mode, mode) for mode in MODES]
    return [(first.mode or second.mode or "", second.mode or first.mode or "")]


def _has(side: Side) -> list[str]:
    return [f"{corpus} ({' '.join(answers.modes)})" for corpus, answers in side.answers.items()]


def _check(first: Side, second: Side, corpus: str, modes: tuple[str, str]) -> None:
    here, there = (side.results[corpus].mode(mode) for side, mode in zip((first, second), modes, strict=True))
    if here is None or there is None:
        return
    if reasons := why_not_comparable(here, there):
        raise InputError(
            f"{first.folder} ({modes[0]}) and {second.folder} ({modes[1]}) on {corpus} cannot be compared "
            f"({'; '.join(reasons)}); answer the same shard with the same settings"
        )
