"""A corpus to shards: sft and rl for a training corpus, test for a test set; a manifest and a card beside them.

Two passes over rows, none over memory: the first reads labels, texts and folders and writes what is kept into a
temporary shard; the second deals its rows out, embeds clips where asked, and numbers them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep import card, label_words, rows
from data_prep.clip import Clip, CorpusError, Fault, listing
from data_prep.drops import QUARANTINED, UNMAPPED, Drops, held_out_names, quarantined
from data_prep.options import Options
from data_prep.places import Root
from data_prep.reader import Reader
from recipe.mer_r1.files.whole import PART

Progress = Callable[[Iterable[Any], str], Iterable[Any]]

_READ_AHEAD = 32  # clips that are read while others are written


def build(
    reader: Reader, root: Root, out: Path, options: Options, progress: Progress = lambda clips, _: clips
) -> dict[str, Any]:
    """Write OUT/{sft,rl}.parquet, OUT/test.parquet or OUT/candidates.parquet, manifest.json, left_out.jsonl and
    README.md; the manifest.

    Raises:
        CorpusError: the corpus cannot be read, or, with `on_bad="error"`, a clip has a fault that is not in quarantine.
    """
    reader = reader.for_training() if options.train else reader
    reader = reader.with_reasons(options.reasons) if options.reasons else reader
    if options.sft and not reader.training:
        way_out = "remove --sft, or add --train" if reader.may_train else "remove --sft"
        raise CorpusError(
            f"--sft {options.sft}: {reader.name} is a test set with one shard, {reader.splits[0]}.parquet; {way_out}"
        )
    if {"picture", "sound"} <= set(options.without):
        raise CorpusError("--without picture --without sound: nothing is left to see or hear; remove one of them")
    reader = reader.with_odd_labels(options.odd_labels).with_missing(options.missing == "keep")
    out.mkdir(parents=True, exist_ok=True)
    parts = {}
    with Drops(out) as drops, ExitStack() as kept:
        kept.callback(lambda: [path.unlink(missing_ok=True) for path in out.glob(f"kept-*{PART}")])
        filters = _Filters(reader, options, held_out_names(options.held_out))
        if reader.test:
            filters.held_out |= {row.name for row in reader.test.labels.rows(root)}
        parts[reader] = _first_pass(reader, root, out, filters, drops, progress)
        if reader.test:
            test_filters = _Filters(reader.test, options, set())
            parts[reader.test] = _first_pass(reader.test, root, out, test_filters, drops, progress)
        counts: dict[str, int] = {}
        tally = card.Tally()
        if drops.unexpected and options.on_bad == "error":
            raise CorpusError(_refusal(reader, root, drops))
        if options.reasons:
            _check_reasons(options.reasons, parts[reader])
        for each, part in parts.items():
            counts |= _second_pass(each, part, root, out, options, tally, progress)
    read, with_reason = sum(part.read for part in parts.values()), parts[reader].with_reason
    manifest = card.manifest(reader, root, options, counts, read, with_reason, drops)
    manifest["partial"] = tally.partial()
    card.write(out, reader, manifest, tally)
    return manifest


def without_sft(reader: Reader, options: Options) -> str | None:
    """What to say before a training corpus is read without clips for SFT; None where there are some."""
    if not reader.training or options.sft:
        return None
    return (
        f"note: --sft is 0, so sft.parquet will be empty and all clips of {reader.name} are for RL. SFT needs clips "
        "with a reason: --sft 5000 is the paper's number, --sft all takes every clip that has one"
    )


@dataclass
class _Filters:
    """Which clips are left out."""

    reader: Reader
    options: Options
    held_out: set[str]

    def __post_init__(self) -> None:
        path = self.options.quarantine
        settled = () if self.options.odd_labels == "refuse" else (label_words.KIND,)
        settled += ("audio_missing", "video_missing") if self.options.missing == "keep" else ()
        self.quarantine = quarantined(path, self.reader.name, settled) if path else {}

    def faults(self, clip: Clip) -> list[Fault]:
        """Why the clip is left out; empty for one that is kept."""
        if kind := self.quarantine.get((clip.group, clip.name)):
            return [
                Fault(f"{QUARANTINED}{kind}", clip.name, f"{clip.where}: clip {clip.name!r}: in quarantine, {kind}")
            ]
        if clip.faults:
            return list(clip.faults)
        if clip.name in self.held_out:
            message = f"{clip.where}: clip {clip.name!r} is also in a held-out set; remove it from one of them"
            return [Fault("in_test_too", clip.name, message)]
        if self.reader.training and not self.options.wheels.mask(clip.labels):
            message = f"{clip.where}: clip {clip.name!r}: no wheel maps any of its labels {list(clip.labels)}"
            return [Fault(UNMAPPED, clip.name, message)]
        return []


@dataclass
class _Part:
    """What the first pass kept."""

    path: Path
    read: int
    kept: int
    with_reason: int
    first: str
    """Name of the first clip that was kept."""


def _first_pass(reader: Reader, root: Root, out: Path, filters: _Filters, drops: Drops, progress: Progress) -> _Part:
    source = filters.options.data_source or reader.name
    path = out / f"kept-{'train' if reader.training else 'test'}.parquet{PART}"
    read, with_reason, first = 0, 0, ""
    with rows.ShardWriter(path, rows.schema(root, embed=False)) as kept:
        for clip in progress(reader.clips(root), f"{reader.title}: labels and files"):
            read += 1
            if faults := filters.faults(clip):
                drops.add(faults, clip.group)
                continue
            row = rows.to_row(clip, root.folder, data_source=source, without=filters.options.without)
            if not row["videos"] and not row["audios"]:
                drops.add([_nothing_left(clip, filters.options)], clip.group)
                continue
            with_reason += bool(clip.reason)
            first = first or clip.name
            kept.write(row)
    if not kept.rows and filters.options.on_bad == "skip":
        raise CorpusError(f"{root.folder}: none of the {read} rows has a usable clip\n{listing(drops.shown)}")
    return _Part(path, read, kept.rows, with_reason, first)


def _check_reasons(file: Path, part: _Part) -> None:
    """Reasons of another corpus would be left aside without a word."""
    if not part.with_reason:
        raise CorpusError(
            f"--reasons {file}: has no text for any of the {part.kept} clips, such as {part.first!r}; name the file "
            "name,reason of the same clips, or remove --reasons"
        )


def _nothing_left(clip: Clip, options: Options) -> Fault:
    left = " and ".join(f"--without {part}" for part in options.without)
    message = f"{clip.where}: clip {clip.name!r}: {left} removes the only part that it has; leave the clip out"
    return Fault("media_missing", clip.name, message)


def _second_pass(
    reader: Reader, part: _Part, root: Root, out: Path, options: Options, tally: card.Tally, progress: Progress
) -> dict[str, int]:
    """Deal the kept rows out to their shards; returns the number of rows of each."""
    splits = reader.splits
    chosen = _chosen(reader, part, options) if reader.training else set()
    silent = options.missing == "keep" or "sound" in options.without
    columns = rows.schema(root, embed=options.embed, silent=silent)
    eligible = 0
    with ExitStack() as files:
        writers = {split: files.enter_context(rows.ShardWriter(out / f"{split}.parquet", columns)) for split in splits}
        for row in progress(_rows(part.path, root.folder, options.embed), f"{reader.title}: shards"):
            split = splits[-1]
            if row["extra_info"]["reason"] or not reader.reasons:
                split = "sft" if eligible in chosen else split
                eligible += 1
            row["extra_info"] |= {"index": writers[split].rows, "split": split}
            tally.add(row)
            writers[split].write(row)
    return {split: writer.rows for split, writer in writers.items()}


def _chosen(reader: Reader, part: _Part, options: Options) -> set[int]:
    """Which of the clips that can be for SFT are, by their number among them. Raises CorpusError.

    They are those with a reason, or all of a corpus that comes without reasons.
    """
    eligible = part.with_reason if reader.reasons else part.kept
    if options.sft == "all":
        return set(range(eligible))
    if options.sft > eligible:
        have = f" and {part.with_reason} of them have a reason" if reader.reasons else ""
        raise CorpusError(f"--sft {options.sft}: too many; {part.kept} clips are kept{have}")
    return set(random.Random(f"sft/{options.seed}").sample(range(eligible), options.sft))


def _rows(path: Path, root: Path, embed: bool) -> Iterator[dict[str, Any]]:
    """The kept rows; with `embed`, clips are read ahead by threads, in order."""
    if not embed:
        yield from rows.read(path)
        return
    with ThreadPoolExecutor() as pool:
        ahead: deque[Future[dict[str, Any]]] = deque()
        for row in rows.read(path):
            ahead.append(pool.submit(_embedded, row, root))
            if len(ahead) == _READ_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _embedded(row: dict[str, Any], root: Path) -> dict[str, Any]:
    for column in ("videos", "audios"):
        row[column] = [{"path": path, "bytes": (root / path).read_bytes()} for path in row[column]]
    return row


def _refusal(reader: Reader, root: Root, drops: Drops) -> str:
    counts = ", ".join(f"{count} {kind}" for kind, count in drops.unexpected.most_common())
    return (
        f"{root.folder}: clips of {reader.name} cannot be used: {counts}; fix them, or leave them out with "
        f"--on-bad skip (left_out.jsonl beside the shards then lists them)\n{listing(drops.shown)}"
    )
