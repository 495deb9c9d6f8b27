"""The check of a corpus: clips to worker processes, what they find to the recorder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import av

from data_prep.check import held_out, verdicts
from data_prep.check.decode import VERSION, Inspect, inspect
from data_prep.check.look import Look
from data_prep.check.pool import Pool
from data_prep.check.record import ClipTask, CountTokens, HeldTask, Recorder, Task
from data_prep.check.results import FILE, Results
from data_prep.check.verdicts import Limits
from data_prep.check.worker import start, work
from data_prep.clip import Clip
from data_prep.places import Root
from data_prep.progress import progress
from data_prep.reader import Reader

TIMEOUT = 120.0
"""Seconds for a clip's files; decoding a clip of some seconds takes some tenths of one."""


@dataclass(frozen=True)
class Options:
    """What is checked, and how."""

    limits: Limits = field(default_factory=Limits)
    held_out: tuple[Path, ...] = ()
    count_tokens: CountTokens | None = None
    workers: int = 1
    timeout: float = TIMEOUT
    """Seconds a clip."""
    inspect: Inspect = inspect


def open_results(out: Path, limits: Limits) -> Results:
    """The base in `out`. Raises CorpusError where it cannot be used."""
    return Results(out / FILE, f"{VERSION}/{av.__version__}/{limits.sampling_rate}")


def check(reader: Reader, root: Root, results: Results, options: Options) -> Recorder:
    """Look at every clip and add its verdicts to `results`; the recorder has the number of files decoded.

    Raises CorpusError where the corpus or a held-out shard cannot be read.
    """
    limits = options.limits
    arguments = (results.path, results.version, options.inspect, limits.sampling_rate)
    pool = Pool(work, options.workers, options.timeout, start, arguments)
    with progress("clips", _count(reader, root)) as step:
        recorder = Recorder(results, limits, options.count_tokens, step)
        tasks = _tasks(reader, root, options.held_out)
        with closing(pool.run(recorder.unknown(tasks))) as ended:
            for task, outcome in ended:
                recorder.found(task, outcome)
    held_out.compare(results)
    return recorder


def _parts(reader: Reader) -> list[tuple[str, Reader]]:
    """("train" or "test", reader): a training corpus may have a test set of its own."""
    own = [("train" if reader.training else "test", reader)]
    return own + ([("test", reader.test)] if reader.test else [])


def _count(reader: Reader, root: Root) -> int:
    return sum(1 for _, each in _parts(reader) for _ in each.labels.rows(root))


def _tasks(reader: Reader, root: Root, shards: Iterable[Path]) -> Iterator[Task]:
    number = 0
    for part, each in _parts(reader):
        for clip in each.clips(root):
            number += 1
            yield ClipTask(number, part, clip, _looks(clip, own_track=each.audio is None))
    for shard in shards:
        for name, video in held_out.entries(shard):
            if isinstance(video, bytes):
                yield HeldTask(str(shard), name, (), video)
            else:
                yield HeldTask(str(shard), name, (video,))


def _looks(clip: Clip, *, own_track: bool) -> tuple[Look, ...]:
    if any(fault.kind in verdicts.ROW_KINDS for fault in clip.faults):
        return ()  # The files are those of the row that has the name rightly.
    looks = [Look(clip.video, "both" if own_track else "video")] if clip.video else []
    return tuple(looks + ([Look(clip.audio, "audio")] if clip.audio else []))
