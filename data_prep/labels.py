"""Label files: a row a clip. Each kind of file yields `LabelRow`s; a row that is wrong says so itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from data_prep.clip import CorpusError
from data_prep.places import Root
from data_prep.tables import not_utf8, read_rows

_BRACKETS = "［【〔[", "］】〕]"
"""Of a list; others than `[` and `]` stay in the words, where `label_words` names them."""
_NOT_IN_A_WORD = re.compile(r"['\"<>\[\]]")


@dataclass(frozen=True, slots=True)
class LabelRow:
    """A clip's truth. `fault` is (kind, message) where the row has none; it says file and row by itself."""

    where: str
    name: str
    labels: tuple[str, ...] = ()
    value: float | None = None
    options: tuple[str, ...] = ()
    group: str = ""
    fault: tuple[str, str] | None = None


class Labels(Protocol):
    """Where a corpus keeps its truths."""

    def files(self, root: Root) -> list[Path]:
        """The files that are read, for the manifest."""

    def rows(self, root: Root) -> Iterator[LabelRow]:
        """All rows in file order. Raises CorpusError where the file as a whole cannot be read."""


class EmptyOpensetError(ValueError):
    """An openset without a word."""


def parse_openset(text: str) -> tuple[str, ...]:
    """Words of an openset such as "[happy, excited]": stripped, lower case, each once, in order.

    Raises EmptyOpensetError where there is no word, ValueError where the text is no bracketed list of words.
    """
    inside = text.strip()
    if inside.lower() not in ("", "nan"):
        if not (inside.startswith(tuple(_BRACKETS[0])) and inside.endswith(tuple(_BRACKETS[1])) and len(inside) > 1):
            raise ValueError(f"openset {text!r} is not a list like [happy, excited]")
        inside = inside.removeprefix("[").removesuffix("]")
    words = (" ".join(word.split()).strip(" '\"").lower() for word in inside.split(","))
    labels = tuple(dict.fromkeys(word for word in words if word not in ("", "nan")))
    if not labels:
        raise EmptyOpensetError(f"openset {text!r} contains no word")
    if odd := [label for label in labels if _NOT_IN_A_WORD.search(label)]:
        raise ValueError(f"openset {text!r}: {odd[0]!r} is not an emotion word")
    return labels


@dataclass(frozen=True)
class OpensetCsv:
    """A CSV `name,openset` with lists such as "[happy, excited]".

    `empty` stands for an empty list, as OV-MERD+'s scorer has it; None: an empty list is a fault.
    """

    file: str
    key: str = "name"
    column: str = "openset"
    empty: str | None = None

    def files(self, root: Root) -> list[Path]:
        """The CSV."""
        return [root.place(self.file)]

    def rows(self, root: Root) -> Iterator[LabelRow]:
        """As `Labels.rows`."""
        path = root.place(self.file)
        for number, (name, openset) in read_rows(path, (self.key, self.column)):
            where = f"{path}: row {number}"
            if not_utf8(name + openset):
                message = f"{where}: {name.encode('utf-8', 'replace').decode()!r}: not UTF-8; save the file as UTF-8"
                yield LabelRow(where, "", fault=("label_not_utf8", message))
                continue
            try:
                yield LabelRow(where, name.strip(), parse_openset(openset))
            except EmptyOpensetError as error:
                if self.empty is not None:
                    yield LabelRow(where, name.strip(), (self.empty,))
                    continue
                yield LabelRow(where, name.strip(), fault=("label_empty", f"{where}: {error}; fill it in"))
            except ValueError as error:
                yield LabelRow(where, name.strip(), fault=("label_bad", f"{where}: {error}; fix it"))


@dataclass(frozen=True)
class NamesCsv:
    """A CSV with a column of names and no labels: the clips that a challenge asks about. Other columns may be there."""

    file: str
    key: str = "name"

    def files(self, root: Root) -> list[Path]:
        """The CSV."""
        return [root.place(self.file)]

    def rows(self, root: Root) -> Iterator[LabelRow]:
        """As `Labels.rows`; no row has a label."""
        path = root.place(self.file)
        for number, (name,) in read_rows(path, (self.key,)):
            where = f"{path}: row {number}"
            if not_utf8(name):
                message = f"{where}: {name.encode('utf-8', 'replace').decode()!r}: not UTF-8; save the file as UTF-8"
                yield LabelRow(where, "", fault=("label_not_utf8", message))
                continue
            yield LabelRow(where, name.strip())


@dataclass(frozen=True)
class NpzLabels:
    """A MERBench npz: under `member` a dict from name to {"emo": …, "val": …}.

    `emotions` says what numbers in "emo" stand for; `sentiment` reads "val" and makes it positive, negative or neutral;
    `names` keeps the names it matches (IEMOCAP's fifth session).
    """

    file: str
    member: str
    emotions: str | None = None
    sentiment: bool = False
    names: str = ""

    def files(self, root: Root) -> list[Path]:
        """The npz."""
        return [root.place(self.file)]

    def rows(self, root: Root) -> Iterator[LabelRow]:
        """As `Labels.rows`; pickles are read by an unpickler that admits plain data alone."""
        from recipe.mer_r1.files.errors import InputError
        from recipe.mer_r1.files.labels import NO_VALUE, Source, read

        path = root.place(self.file)
        try:
            found = read(Source(path, "value" if self.sentiment else "words", self.member, self.emotions))
        except InputError as error:
            raise CorpusError(str(error)) from error
        kept = {name: truth for name, truth in found.items() if re.match(self.names, name)}
        if not kept:
            raise CorpusError(f"{path}, {self.member}: no name matches {self.names!r}")
        for name, truth in kept.items():
            where = f"{path}: {self.member}"
            if not self.sentiment:
                words = tuple(word.strip().lower() for word in truth)
                fault = None if words else ("label_empty", f"{where}: clip {name!r}: it has no emotion; fill it in")
                yield LabelRow(where, name, words, fault=fault)
            elif truth == NO_VALUE:
                yield LabelRow(
                    where, name, fault=("label_empty", f"{where}: clip {name!r}: 'val' is missing; fill it in")
                )
            else:
                yield LabelRow(where, name, (_polarity(truth),), value=truth)


@dataclass(frozen=True)
class QuestionFiles:
    """MME-Emotion: TASK/question/*.json, a list of {"video_id", "label", "label_set"} a task.

    A clip's name is its video_id, suffix included; its labels are comma-separated.
    """

    tasks: tuple[str, ...]

    def files(self, root: Root) -> list[Path]:
        """All question files."""
        return [path for task in self.tasks for path in self._of(root, task)]

    def _of(self, root: Root, task: str) -> list[Path]:
        found = sorted((root.folder / task / "question").glob("*.json"))
        if not found:
            raise CorpusError(
                f"{root.folder / task / 'question'}: no question file; set --root to the folder that contains the tasks"
            )
        return [root.place(str(path.relative_to(root.folder))) for path in found]

    def rows(self, root: Root) -> Iterator[LabelRow]:
        """As `Labels.rows`."""
        for task in self.tasks:
            for path in self._of(root, task):
                for number, item in enumerate(_json_list(path), start=1):
                    yield _question(f"{path}: item {number}", item, task)


def _json_list(path: Path) -> list[Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise CorpusError(f"{path}: not JSON ({error}); download it again") from error
    if not isinstance(content, list):
        raise CorpusError(f"{path}: not a list of questions; download it again")
    return content


def _question(where: str, item: Any, task: str) -> LabelRow:
    if not isinstance(item, dict) or not isinstance(item.get("video_id"), str):
        return LabelRow(where, "", group=task, fault=("name_bad", f"{where}: 'video_id' must be a string; fix it"))
    name = item["video_id"]
    label, options = item.get("label"), item.get("label_set", [])
    words = tuple(word.strip() for word in label.split(",") if word.strip()) if isinstance(label, str) else ()
    if not words:
        return LabelRow(
            where,
            name,
            group=task,
            fault=("label_empty", f"{where}: clip {name!r}: 'label' must be a non-empty string; fill it in"),
        )
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        fault = ("label_bad", f"{where}: clip {name!r}: 'label_set' is not a list of words; fix it")
        return LabelRow(where, name, group=task, fault=fault)
    return LabelRow(where, name, words, options=tuple(options), group=task)


def _polarity(value: float) -> str:
    return "positive" if value > 0 else "negative" if value < 0 else "neutral"
