"""Reading a folder in the layout of MER2025 / MER-Caption+, with every fault named.

DIR/video/NAME.mp4   DIR/audio/NAME.wav
DIR/subtitle_chieng.csv               name,chinese,english
DIR/track2_train_mercaptionplus.csv   name,openset      openset like "[happy, excited]"
DIR/track3_train_mercaptionplus.csv   name,reason
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from data_prep.media import decode_fault

SUBTITLES = "subtitle_chieng.csv"
OPENSETS = "track2_train_mercaptionplus.csv"
REASONS = "track3_train_mercaptionplus.csv"
COLUMNS = {SUBTITLES: ("name", "english"), OPENSETS: ("name", "openset"), REASONS: ("name", "reason")}

OnBad = Literal["error", "skip"]
Check = Literal["files", "decode"]

_SHOWN = 10  # faults listed in an error; the rest are counted
_MARKUP = re.compile(r"<(?:video|audio|image)>|</?(?:think|answer)>|<\|[^|>]*\|>")
_NOT_IN_A_WORD = re.compile(r"['\"<>\[\]]")


class CorpusError(ValueError):
    """A corpus cannot be read as it is; the message names file, row, key and the way out."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled clip. `reason` is "" where the corpus has none; `labels` is never empty."""

    name: str
    video: Path
    audio: Path
    subtitle: str
    labels: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one row or clip. `kind` is a short fixed name to count by."""

    kind: str
    name: str
    message: str


@dataclass(slots=True)
class Report:
    """What a reading found; `faults` are the rows that were left out."""

    read: int = 0
    kept: int = 0
    faults: list[Fault] = field(default_factory=list)

    def as_json(self) -> dict:
        """Counts by kind and every name, for the JSON beside the shards."""
        return {
            "rows_read": self.read,
            "rows_kept": self.kept,
            "left_out_by_kind": dict(Counter(fault.kind for fault in self.faults)),
            "left_out": [{"kind": f.kind, "name": f.name, "message": f.message} for f in self.faults],
        }


def read_mer2025(folder: str | Path, *, on_bad: OnBad = "error", check: Check = "files") -> list[Clip]:
    """The labelled clips of a corpus folder, in the order of the openset file.

    on_bad: "error" raises CorpusError on the first reading that finds a fault and lists them; "skip" leaves the rows
    out (use `read_with_report` to learn which). A missing CSV or column raises either way.
    check: "files" looks whether the media exist, "decode" decodes every clip from its first frame to its last.
    """
    return read_with_report(folder, on_bad=on_bad, check=check)[0]


def read_with_report(
    folder: str | Path, *, on_bad: OnBad = "error", check: Check = "files"
) -> tuple[list[Clip], Report]:
    """As `read_mer2025`, and what was left out and why."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder; give the one that holds video/, audio/ and {OPENSETS}")
    report = Report()
    subtitles, reasons = _Side(folder / SUBTITLES), _Side(folder / REASONS)
    clips = []
    for row, name, openset in _labelled_rows(folder / OPENSETS, report):
        try:
            clips.append(_clip(folder, row, name, openset, subtitles, reasons))
        except _BadRow as bad:
            report.faults.append(bad.fault)
    if check == "decode":
        clips = _decodable(clips, report)
    report.kept = len(clips)
    if report.faults and on_bad == "error":
        raise CorpusError(_summary(folder, report.faults))
    if not clips:
        raise CorpusError(f"{folder / OPENSETS}: not one usable clip in {report.read} rows\n{_listing(report.faults)}")
    return clips, report


class EmptyOpensetError(ValueError):
    """An openset without a word."""


def parse_openset(text: str) -> tuple[str, ...]:
    """Words of an openset such as "[happy, excited]": stripped, lower case, each once, in order.

    Raises EmptyOpensetError where there is no word, ValueError where the text is no bracketed list of words.
    """
    inside = text.strip()
    if inside.lower() not in ("", "nan"):
        if not (inside.startswith("[") and inside.endswith("]")):
            raise ValueError(f"openset {text!r} is not a list like [happy, excited]")
        inside = inside[1:-1]
    words = (" ".join(word.split()).strip(" '\"").lower() for word in inside.split(","))
    labels = tuple(dict.fromkeys(word for word in words if word not in ("", "nan")))
    if not labels:
        raise EmptyOpensetError(f"openset {text!r} holds no word")
    if odd := [label for label in labels if _NOT_IN_A_WORD.search(label)]:
        raise ValueError(f"openset {text!r}: {odd[0]!r} is no emotion word")
    return labels


def _read_csv(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise CorpusError(f"{path}: missing; a corpus folder needs {', '.join(COLUMNS)} (see docs/MER-Micro.md)")
    try:
        # Strings as they are: a subtitle "None" or "NA" is speech, not a missing value.
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 at byte {error.start}; convert it, e.g. with iconv -t utf-8") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise CorpusError(f"{path}: not a CSV file ({str(error).strip()}); quote texts that hold commas") from error
    if not isinstance(table.index, pd.RangeIndex):
        # pandas takes what is too much in the first row for row labels, and every column moves by one.
        raise CorpusError(
            f"{path}: row 1: more fields than the header's {len(table.columns)} columns {list(table.columns)}; "
            'quote texts that hold commas: "He smiles, and laughs"'
        )
    if absent := [column for column in COLUMNS[path.name] if column not in table]:
        raise CorpusError(f"{path}: no column {absent[0]!r}; found {list(table.columns)}; mend the header line")
    return table


def _labelled_rows(path: Path, report: Report) -> Iterator[tuple[int, str, str]]:
    """(data row from 1, name, openset); a repeated or unusable name is a fault."""
    table = _read_csv(path)
    first: dict[str, int] = {}
    for row, (name, openset) in enumerate(zip(table["name"], table["openset"], strict=True), start=1):
        report.read += 1
        name = name.strip()
        if not name or name in (".", "..") or any(sign in name for sign in "/\\\0"):
            message = f"{path}: row {row}: name {name!r} is empty or holds a path; names are file names without suffix"
            report.faults.append(Fault("bad_name", name, message))
        elif name in first:
            message = f"{path}: row {row}: name {name!r} again (first in row {first[name]}); remove one of the rows"
            report.faults.append(Fault("duplicate_name", name, message))
        else:
            first[name] = row
            yield row, name, openset


class _BadRow(Exception):
    """Carries the fault of one labelled row."""

    def __init__(self, kind: str, name: str, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(kind, name, message)


class _Side:
    """Subtitles or reasons by name. Only rows of labelled clips matter, so faults are raised on look-up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        table = _read_csv(path)
        key, self.column = COLUMNS[path.name]
        self._found: dict[str, tuple[int, str]] = {}
        self._again: dict[str, int] = {}
        for row, (name, text) in enumerate(zip(table[key].str.strip(), table[self.column], strict=True), start=1):
            text = " ".join(text.split())
            text = "" if text.lower() == "nan" else text
            if self._found.setdefault(name, (row, text))[1] != text:
                self._again.setdefault(name, row)

    def get(self, name: str) -> str | None:
        """The text of the clip, "" where it is empty, None where it has no row; a contradiction raises _BadRow."""
        if name in self._again:
            rows = f"rows {self._found[name][0]} and {self._again[name]}"
            message = f"{self.path}: {rows}: name {name!r} twice with different texts; remove one of the rows"
            raise _BadRow("duplicate_name", name, message)
        return self._found[name][1] if name in self._found else None

    def where(self, name: str) -> str:
        """File, row and clip, for a message."""
        return f"{self.path}: row {self._found[name][0]}: clip {name!r}"


def _clip(folder: Path, row: int, name: str, openset: str, subtitles: _Side, reasons: _Side) -> Clip:
    """The clip of one row; raises _BadRow."""
    where = f"{folder / OPENSETS}: row {row}: clip {name!r}"
    try:
        labels = parse_openset(openset)
    except ValueError as error:
        kind = "empty_openset" if isinstance(error, EmptyOpensetError) else "bad_openset"
        raise _BadRow(kind, name, f"{where}: {error}; mend it or remove the row") from error
    subtitle = subtitles.get(name)
    if subtitle is None:
        raise _BadRow("no_subtitle_row", name, f"{where}: no row of that name in {SUBTITLES}; add one")
    if not subtitle:
        raise _BadRow("nan_subtitle", name, f"{subtitles.where(name)}: column 'english' is empty; fill it in")
    reason = reasons.get(name) or ""
    for side, text in ((subtitles, subtitle), (reasons, reason)):
        if found := _MARKUP.search(text):
            message = f"{side.where(name)}: column {side.column!r} holds {found[0]!r}, which has a meaning; remove it"
            raise _BadRow("markup_in_text", name, message)
    video, audio = folder / "video" / f"{name}.mp4", folder / "audio" / f"{name}.wav"
    for kind, path in (("missing_video", video), ("missing_audio", audio)):
        if not path.is_file():
            raise _BadRow(kind, name, f"{where}: no file {path}; add it or remove the row")
    return Clip(name, video.absolute(), audio.absolute(), subtitle, labels, reason)


def _decodable(clips: list[Clip], report: Report) -> list[Clip]:
    """The clips whose video and audio decode to the end; PyAV releases the interpreter lock, so threads do."""

    def fault(clip: Clip) -> Fault | None:
        for kind, path in (("video", clip.video), ("audio", clip.audio)):
            if wrong := decode_fault(path, kind):
                return Fault(f"undecodable_{kind}", clip.name, f"clip {clip.name!r}: {wrong}")
        return None

    with ThreadPoolExecutor() as pool:
        verdicts = list(pool.map(fault, clips))
    report.faults += [verdict for verdict in verdicts if verdict]
    return [clip for clip, verdict in zip(clips, verdicts, strict=True) if verdict is None]


def _listing(faults: Iterable[Fault]) -> str:
    faults = list(faults)
    more = [f"  … and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
    return "\n".join([f"  {fault.message}" for fault in faults[:_SHOWN]] + more)


def _summary(folder: Path, faults: list[Fault]) -> str:
    counts = ", ".join(f"{count} {kind}" for kind, count in Counter(fault.kind for fault in faults).most_common())
    way_out = "mend them, or leave those clips out with --on-bad skip (a JSON beside the shards then names each)"
    return f"{folder}: {len(faults)} faults ({counts}); {way_out}\n{_listing(faults)}"
