"""Clips to parquet shards with verl's columns: sft, rl and test."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.corpus import Check, Clip, CorpusError, Fault, OnBad, Report, read_with_report
from data_prep.files import write_whole
from recipe.mer_r1.answer import build_prompt

SCHEMA = pa.schema(
    {
        "data_source": pa.string(),
        "prompt": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "videos": pa.list_(pa.string()),
        "audios": pa.list_(pa.string()),
        "reward_model": pa.struct({"style": pa.string(), "ground_truth": pa.list_(pa.string())}),
        "extra_info": pa.struct(
            {
                "index": pa.int64(),
                "name": pa.string(),
                "split": pa.string(),
                "subtitle": pa.string(),
                "reason": pa.string(),
            }
        ),
    }
)
LEFT_OUT = "left_out.json"


def to_row(clip: Clip, *, index: int, split: str, data_source: str) -> dict:
    """A parquet row of `SCHEMA`; media by absolute path."""
    return {
        "data_source": data_source,
        "prompt": [{"role": "user", "content": build_prompt(clip.subtitle)}],
        "videos": [str(clip.video)],
        "audios": [str(clip.audio)],
        "reward_model": {"style": "rule", "ground_truth": list(clip.labels)},
        "extra_info": {
            "index": index,
            "name": clip.name,
            "split": split,
            "subtitle": clip.subtitle,
            "reason": clip.reason,
        },
    }


def split_sft(clips: Sequence[Clip], count: int, seed: int) -> tuple[list[Clip], list[Clip]]:
    """`count` random clips that have a reason (for SFT) and all others (for RL), both in the order of `clips`.

    Raises CorpusError when there are not enough of them.
    """
    with_reason = [i for i, clip in enumerate(clips) if clip.reason]
    if not 0 <= count <= len(with_reason):
        raise CorpusError(
            f"--sft {count}: the corpus has {len(clips)} clips, {len(with_reason)} with a reason; ask for fewer"
        )
    chosen = set(random.Random(f"sft/{seed}").sample(with_reason, count))
    sft = [clip for i, clip in enumerate(clips) if i in chosen]
    return sft, [clip for i, clip in enumerate(clips) if i not in chosen]


def write_parquet(rows: Sequence[dict], path: Path) -> None:
    """Write rows of `SCHEMA`; the file appears whole or not at all."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), sink)
    write_whole(path, sink.getvalue().to_pybytes())


def write_shards(
    corpus: Path,
    out: Path,
    *,
    sft: int,
    seed: int,
    test_corpus: Path | None = None,
    data_source: str = "mer2025",
    on_bad: OnBad = "error",
    check: Check = "files",
) -> dict[str, int]:
    """Read the corpora and write OUT/{sft,rl,test}.parquet; returns the number of rows of each.

    What "skip" leaves out is listed in OUT/left_out.json (written always, empty lists included). A training clip
    whose name is in the test corpus too is a fault of the training corpus.
    """
    train, report = read_with_report(corpus, on_bad=on_bad, check=check)
    reports = {"train": report}
    test: list[Clip] = []
    if test_corpus is not None:
        test, reports["test"] = read_with_report(test_corpus, on_bad=on_bad, check=check)
        train = _without_test_names(train, test, report, on_bad)
    parts = dict(zip(("sft", "rl"), split_sft(train, sft, seed), strict=True))
    if test_corpus is not None:
        parts["test"] = test
    for split, clips in parts.items():
        rows = [to_row(clip, index=i, split=split, data_source=data_source) for i, clip in enumerate(clips)]
        write_parquet(rows, out / f"{split}.parquet")
    left_out = {name: each.as_json() for name, each in reports.items()}
    write_whole(out / LEFT_OUT, (json.dumps(left_out, indent=1, ensure_ascii=False) + "\n").encode())
    return {split: len(clips) for split, clips in parts.items()}


def _without_test_names(train: list[Clip], test: list[Clip], report: Report, on_bad: OnBad) -> list[Clip]:
    names = {clip.name for clip in test}
    both = [clip.name for clip in train if clip.name in names]
    if both and on_bad == "error":
        raise CorpusError(
            f"{len(both)} clips are in the training and in the test corpus, the first is {both[0]!r}; "
            "remove them from one, or leave them out of training with --on-bad skip"
        )
    report.faults += [Fault("in_test_too", name, f"clip {name!r} is in the test corpus too") for name in both]
    report.kept -= len(both)
    return [clip for clip in train if clip.name not in names]
