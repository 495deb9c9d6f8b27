"""A corpus as a declaration of its files, and the one way in which all of them are read.

A reader of your own: docs/corpora.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from data_prep import label_words
from data_prep.clip import Clip, CorpusError, Fault
from data_prep.labels import LabelRow, Labels
from data_prep.places import MediaFolder, MediaPlace, Root
from data_prep.tables import Names, Texts, TextTable, UserTable, not_utf8
from recipe.mer_r1.method.answer import markup_in

_Fault = Callable[[str, str], None]


@dataclass(frozen=True)
class Reader:
    """Where a corpus keeps its labels, media and texts.

    A training corpus leaves out clips without subtitle and clips whose labels no wheel maps; a test set keeps both, for
    its scores are defined over all of its clips.
    """

    name: str
    title: str
    labels: Labels
    video: MediaFolder
    audio: MediaFolder | None = None
    """None: the sound is the video's own track."""
    subtitles: TextTable | None = None
    reasons: TextTable | UserTable | None = None
    """None, of a training corpus: all of its clips can be for SFT, which then teaches the fast form only."""
    if_no_reasons: str = ""
    """Where reasons can be had, of a corpus that comes without them."""
    training: bool = False
    labelled: bool = True
    """False: the clips that a challenge asks about; the truth of their rows is an empty list."""
    may_train: bool = False
    """Whether a test set may be made a training corpus (`for_training`)."""
    published: int | None = None
    """Number of clips as published, to be compared with what was found."""
    scored: int | None = None
    """Of them, those that the official scorer counts."""
    test: Reader | None = None
    """The corpus's own test set: written beside it, its names kept out of training."""
    odd_labels: label_words.OddLabels = "refuse"
    """What to do with labels that contain characters which are not part of a word."""
    keep_partial: bool = False
    """Whether a clip with one of its two files is used as it is; a corpus without sound files has one file anyway."""
    names_are_paths: bool = False
    """Names are paths inside the video folder or inside its folder of the clip's group, suffix included."""

    def with_odd_labels(self, choice: label_words.OddLabels) -> Reader:
        """The same reader, and its test set's, with another choice for labels with odd characters."""
        test = replace(self.test, odd_labels=choice) if self.test else None
        return replace(self, odd_labels=choice, test=test)

    def with_reasons(self, file: Path) -> Reader:
        """The same training corpus with reasons from a CSV `name,reason`. Raises CorpusError for a test set."""
        if not self.training:
            raise CorpusError(f"--reasons {file}: {self.name} makes no SFT shard; remove --reasons")
        return replace(self, reasons=UserTable(str(file), "reason"))

    def for_training(self) -> Reader:
        """The same clips as a training corpus. Raises CorpusError where they must stay a test set."""
        if self.training:
            raise CorpusError(f"--train: {self.name} is a training corpus anyway; remove --train")
        if not self.may_train:
            raise CorpusError(f"--train: {self.name} is a test set, and must not be trained on; remove --train")
        return replace(self, training=True)

    @property
    def splits(self) -> tuple[str, ...]:
        """The shards that it makes, without those of its own test set."""
        if self.training:
            return ("sft", "rl")
        return ("test",) if self.labelled else ("candidates",)

    def with_missing(self, keep: bool) -> Reader:
        """The same reader, and its test set's, with another choice for clips without picture or without sound."""
        return replace(self, keep_partial=keep, test=replace(self.test, keep_partial=keep) if self.test else None)

    def inputs(self, root: Root) -> list[Path]:
        """Label and text files, whose sha256 the manifest records. Raises CorpusError."""
        texts = [table.path(root) for table in (self.subtitles, self.reasons) if table]
        return [*self.labels.files(root), *texts]

    def clips(self, root: Root) -> Iterator[Clip]:
        """Every row of the label file, in its order, with its faults.

        Raises CorpusError where a file or folder as a whole is missing or cannot be read.
        """
        with ExitStack() as open_files:
            sides = _Sides(
                self,
                video=self.video.at(root),
                audio=self.audio.at(root) if self.audio else None,
                subtitles=open_files.enter_context(closing(self.subtitles.at(root))) if self.subtitles else None,
                reasons=open_files.enter_context(closing(self.reasons.at(root))) if self.reasons else None,
            )
            names = open_files.enter_context(closing(Names()))
            for number, row in enumerate(self.labels.rows(root), start=1):
                first = names.first(f"{row.group}\0{row.name}", number) if row.name else number
                yield sides.clip(row, None if first == number else first)


@dataclass
class _Sides:
    """What a label row is joined with."""

    reader: Reader
    video: MediaPlace
    audio: MediaPlace | None
    subtitles: Texts | None
    reasons: Texts | None

    def clip(self, row: LabelRow, again: int | None) -> Clip:
        """The clip of a row; `again` is the row that had its name first."""
        faults: list[Fault] = []

        def fault(kind: str, message: str) -> None:
            faults.append(Fault(kind, row.name, message))

        where = f"{row.where}: clip {row.name!r}"
        if row.fault:
            fault(*row.fault)
        if not row.name or not self._safe(row.name):
            if not faults:
                fault(
                    "name_bad",
                    f"{row.where}: name {row.name!r} is empty or cannot be a file name in the folder; fix it",
                )
            return Clip(row.name, row.where, group=row.group, faults=tuple(faults))
        labels = self._words(row, where, fault)
        if again is not None:
            fault("name_duplicate", f"{where}: the same name is in row {again}; remove one of the rows")
        video = self._media(self.video, "video", row, where, fault)
        audio = self._media(self.audio, "audio", row, where, fault) if self.audio else None
        partial = self.reader.keep_partial and self.audio is not None
        if partial and not video and not audio and not faults:
            fault("media_missing", f"{where}: neither its video nor its audio is there; add one or remove the row")
        subtitle = self._text(self.subtitles, "subtitle", row.name, where, fault, needed=self.reader.training)
        reason = self._text(self.reasons, "reason", row.name, where, fault, needed=False)
        return Clip(
            row.name, row.where, video, audio, subtitle, labels, row.value, reason, row.options, row.group,
            tuple(faults), silent=partial and not audio,
        )  # fmt: skip

    def _safe(self, name: str) -> bool:
        parts = name.split("/") if self.reader.names_are_paths else [name]
        return not not_utf8(name) and not any(part in ("", ".", "..") or "\\" in part or "/" in part for part in parts)

    def _words(self, row: LabelRow, where: str, fault: _Fault) -> tuple[str, ...]:
        """The row's labels, split where the user wants it."""
        text = "\n".join((*row.labels, *row.options))
        if not_utf8(text):
            fault("label_not_utf8", f"{where}: a label is not UTF-8; save the file as UTF-8")
        elif markup := markup_in(text):
            fault("markup_in_text", f"{where}: a label contains the tag {markup!r}; remove the tag")
        else:
            labels, problem = label_words.settle(row.labels, row.options, self.reader.odd_labels)
            if problem:
                fault(label_words.KIND if labels else "label_empty", f"{where}: {problem}")
            return labels
        return row.labels

    def _media(self, place: MediaPlace, kind: str, row: LabelRow, where: str, fault: _Fault) -> Path | None:
        try:
            found = place.find(row.name)
            if found is None and self.reader.names_are_paths and row.group:
                found = place.find(f"{row.group}/{row.name}")
            if found is None:
                self._not_found(place, kind, row.name, where, fault)
            return found
        except CorpusError as error:
            fault("outside_root", f"{where}: {error}")
        except OSError as error:  # e.g. a name that is too long for the file system
            fault(f"{kind}_missing", f"{where}: its {kind} cannot be found ({error.strerror}); fix the name")
        return None

    def _not_found(self, place: MediaPlace, kind: str, name: str, where: str, fault: _Fault) -> None:
        if link := place.broken_link(name):
            fault(f"{kind}_missing", f"{where}: {link}; add that file or remove the row")
        elif not self.reader.names_are_paths and (similar := place.similar(name)):
            fault("name_mismatch", f"{where}: its {kind} is named {similar!r}; rename one of them")
        elif not (self.reader.keep_partial and self.audio):
            fault(f"{kind}_missing", f"{where}: no file {place.wanted(name)}; add it or remove the row")

    def _text(self, texts: Texts | None, kind: str, name: str, where: str, fault: _Fault, *, needed: bool) -> str:
        """The clip's subtitle or reason, "" where it has none; `needed` makes that a fault."""
        found = texts.get(name) if texts else []
        if not texts:
            return ""
        if len(found) > 1:
            rows = f"rows {found[0][0]} and {found[1][0]}"
            fault(f"{kind}_ambiguous", f"{texts.path}: {rows}: clip {name!r} has two different texts; remove one")
            return ""
        if not found:
            if needed:
                fault(f"{kind}_missing", f"{where}: no row with this name in {texts.path.name}; add one")
            return ""
        row, text = found[0]
        at = f"{texts.path}: row {row}: clip {name!r}"
        if not_utf8(text):
            fault(f"{kind}_not_utf8", f"{at}: column {texts.column!r} is not UTF-8; save the file as UTF-8")
            return ""
        if needed and not text:
            fault(f"{kind}_empty", f"{at}: column {texts.column!r} is empty; fill it in")
        if markup := markup_in(text):
            fault("markup_in_text", f"{at}: {texts.column!r} contains the tag {markup!r}; remove the tag")
            return ""
        return text
