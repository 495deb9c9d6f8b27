"""A challenge's submission: every candidate once, as the npz that the organisers' server takes and as a CSV."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.drops import LEFT_OUT
from data_prep.tables import read_rows
from recipe.mer_r1.files.whole import write_whole
from recipe.mer_r1.method.answer import split_list

SHOWN = 10
"""Names in a message; the others are counted."""


class IncompleteError(ValueError):
    """A candidate has no answer, or more than one: the message names candidates and says what to do."""


@dataclass(frozen=True)
class Submission:
    """Candidate → words, in the order in which they are written; what was filled in has no answer of the model."""

    answers: Mapping[str, Sequence[str]]
    filled: Sequence[str]

    @property
    def empty(self) -> list[str]:
        """The candidates whose list has no word."""
        return [name for name, words in self.answers.items() if not words]


def candidates(shard: Path, names: Sequence[str], listed: Path | None) -> list[str]:
    """All names that a submission must answer.

    Args:
        shard: of `data_prep build`.
        names: of its rows.
        listed: a CSV with a column `name`, the organisers' list; None: the shard's names and those that `build` left
            out of it.

    Raises:
        IncompleteError: a name is there twice. CorpusError: the CSV cannot be read.
    """
    _once(names, f"{shard}: ")
    if listed is None:
        return [*names, *left_out(shard, names)]
    wanted = [name.strip() for _, (name,) in read_rows(listed, ("name",))]
    _once(wanted, f"{listed}: ")
    if strange := missing(names, wanted):
        raise IncompleteError(
            f"{shard}: {_count(strange)} of it are not in {listed}: {shown(strange)}; build the shard from that list"
        )
    return wanted


def missing(wanted: Iterable[str], found: Iterable[str]) -> list[str]:
    """What is wanted and not found, in order."""
    there = {*found}
    return [name for name in wanted if name not in there]


def left_out(shard: Path, names: Iterable[str]) -> list[str]:
    """Names that `data_prep build` left out of a shard of candidates, as the file beside the shard tells."""
    path = shard.with_name(LEFT_OUT)
    if not path.is_file() or shard.stem != "candidates":
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    found = dict.fromkeys(json.loads(line)["name"] for line in lines if line.strip())
    return [name for name in missing(found, names) if name]


def _once(names: Sequence[str], where: str) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise IncompleteError(f"{where}more than one row of {_count(twice)}: {shown(twice)}; keep one row of each")


def collect(
    lines: Iterable[Mapping[str, Any]], names: Sequence[str], wanted: Sequence[str], fill: Sequence[str] | None
) -> Submission:
    """The answers of all candidates, checked.

    Args:
        lines: of the answers' files.
        names: of the shard's rows, in order.
        wanted: all candidates.
        fill: words for those that the model has no answer to; None: they are an error.

    Raises:
        IncompleteError: a candidate is missing, is there twice, or failed.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for line in lines:
        name = names[line["index"]] if line["index"] < len(names) else None
        if line["name"] != name:
            raise IncompleteError(f"the answer to {line['name']!r} is of row {line['index']}, which is {name!r}")
        if name in found:
            raise IncompleteError(f"the candidate {name!r} has more than one answer; answer the parts again")
        found[name] = line
    if open_ones := missing(names, found):
        raise IncompleteError(
            f"no answer to {_count(open_ones)}: {shown(open_ones)}; run the command of that part again to continue"
        )
    failed = [name for name in names if "failed" in found[name]]
    absent = missing(wanted, found)
    if fill is None and (failed or absent):
        raise IncompleteError(_unanswered(failed, absent, found))
    unanswered = {*failed, *absent}
    answers = {name: _words(fill or () if name in unanswered else found[name]["words"]) for name in wanted}
    return Submission(answers, [name for name in wanted if name in unanswered])


def _unanswered(failed: Sequence[str], absent: Sequence[str], found: Mapping[str, Mapping[str, Any]]) -> str:
    parts = []
    if failed:
        parts.append(
            f"{_count(failed)} failed: {shown(failed)} (the first: {found[failed[0]]['failed']}); fix the clips, and "
            "run again with --retry-failed"
        )
    if absent:
        parts.append(
            f"{_count(absent)} not in the shard: {shown(absent)}; fix the clips ({LEFT_OUT} beside the shard says "
            "why they were left out), and build the shard again"
        )
    return "; ".join(parts) + ". Or give all of these one answer: --fill neutral, or --fill '' for an empty list"


def shown(names: Sequence[str]) -> str:
    """The first names, and how many more there are, for a message."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(map(repr, names[:SHOWN]))}{more}"


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} candidate{'s' * (len(names) != 1)}"


def _words(words: Iterable[str]) -> list[str]:
    """Each word once, on one line: the scorer reads sets of lower-case words."""
    first: dict[str, str] = {}
    for word in words:
        plain = " ".join(word.split())
        first.setdefault(plain.lower(), plain)
    return [*first.values()]


def write(out: Path, submission: Submission, about: Mapping[str, Any]) -> list[Path]:
    """Write OUT/NAME-openset.npz, OUT/NAME.csv and OUT/NAME.json, NAME being the folder's, and read the first again.

    `filenames` and `fileitems` of the npz are text (`<U…`), as numpy makes it of lists of strings: the organisers' code
    loads them without pickles. An item is a list such as `[happy, surprised]`; one without words is `[]`.

    Args:
        about: what made the answers, for NAME.json.

    Raises:
        IncompleteError: what was written is not read as it was meant.
    """
    name = out.resolve().name
    items = {key: f"[{', '.join(words)}]" for key, words in submission.answers.items()}
    packed, table = io.BytesIO(), io.StringIO()
    np.savez_compressed(packed, filenames=np.array([*items], str), fileitems=np.array([*items.values()], str))
    rows = csv.writer(table, lineterminator="\n")
    rows.writerows([("name", "openset"), *items.items()])
    numbers = {"candidates": len(items), "empty": len(submission.empty), "filled": list(submission.filled)}
    files = {
        out / f"{name}-openset.npz": packed.getvalue(),
        out / f"{name}.csv": table.getvalue().encode(),
        out / f"{name}.json": json.dumps({**numbers, **about}, indent=1, ensure_ascii=False).encode() + b"\n",
    }
    for path, data in files.items():
        write_whole(path, data)
    _read_again(next(iter(files)), submission)
    return [*files]


def _read_again(path: Path, submission: Submission) -> None:
    with np.load(path, allow_pickle=False) as saved:
        pairs = zip(saved["filenames"], saved["fileitems"], strict=True)
        read = [(str(name), split_list(str(item))) for name, item in pairs]
    for (name, words), (wanted, meant) in zip(read, submission.answers.items(), strict=True):
        if name != wanted or words != list(meant):
            raise IncompleteError(f"{path}: {wanted!r} is read back as {name!r}, {words!r}, not as {list(meant)!r}")
