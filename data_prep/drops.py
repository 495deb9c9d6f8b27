"""What a build leaves out: counted by reason, each clip with its message in a file beside the shards."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow.parquet as pq

from data_prep.clip import SHOWN, CorpusError, Fault
from recipe.mer_r1.files.whole import PART

LEFT_OUT = "left_out.jsonl"
QUARANTINED, UNMAPPED = "quarantined_", "label_unmapped"
EXPECTED = (QUARANTINED, UNMAPPED)
"""Kinds that a user has asked for, by a quarantine list or by a choice of wheels: they are no error."""


class Drops:
    """Writes OUT/left_out.jsonl, which appears at the end; keeps counts, and the first faults that nobody expected.

    After an error the file of an earlier build stays: it lists what the shards beside it do not have.
    """

    def __init__(self, out: Path) -> None:
        self._path = out / LEFT_OUT
        self._part = out / f"{LEFT_OUT}.{os.getpid()}{PART}"
        self.by_kind: Counter[str] = Counter()
        self.unexpected: Counter[str] = Counter()
        self.clips = 0
        self.shown: list[Fault] = []

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("w", encoding="utf-8", newline="\n")
        return self

    def add(self, faults: Iterable[Fault], group: str) -> None:
        """Leave a clip out. Its first fault is its reason; all are listed."""
        faults = list(faults)
        self.clips += 1
        self.by_kind[faults[0].kind] += 1
        for fault in faults:
            line = {"group": group, "name": fault.name, "kind": fault.kind, "message": fault.message}
            self._file.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "replace").decode() + "\n")
        if not faults[0].kind.startswith(EXPECTED):
            self.unexpected[faults[0].kind] += 1
            if len(self.shown) < SHOWN:
                self.shown.append(faults[0])

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        if kind is None:
            os.replace(self._part, self._path)
        else:
            self._part.unlink(missing_ok=True)


def quarantined(path: Path, corpus: str, settled: Collection[str] = ()) -> dict[tuple[str, str], str]:
    """(group, name) → kind of the clips that `data_prep check --quarantine` listed for this corpus.

    Lines of a kind in `settled` do not count: the user has chosen what to do with it.

    Raises CorpusError for a file that is no such list, or one that was made for other corpora alone.
    """
    found, others, listed = {}, set(), False
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot be read ({error}); make it with data_prep check --quarantine") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            if entry["corpus"] == corpus:
                listed = True
                if entry["kind"] not in settled:
                    found[entry["group"], entry["name"]] = entry["kind"]
            else:
                others.add(entry["corpus"])
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(
                f"{path}, line {number}: not a line of a quarantine list ({error!r}); make the list again"
            ) from error
    if others and not listed:
        raise CorpusError(
            f"{path}: lists clips of {', '.join(sorted(others))}, but none of {corpus}; use the list of {corpus}"
        )
    return found


def held_out_names(shards: Iterable[Path]) -> set[str]:
    """Names of the clips of other shards, which must not be trained on. Raises CorpusError."""
    names: set[str] = set()
    for shard in shards:
        try:
            with pq.ParquetFile(shard) as file:
                infos = file.read(columns=["extra_info.name"])["extra_info"]
            names.update(info["name"] for info in infos.to_pylist())
        except (OSError, ValueError, KeyError) as error:
            raise CorpusError(f"--held-out {shard}: not a shard written by data_prep ({error})") from error
    return names
