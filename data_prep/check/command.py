"""From a user's options to a check, its report, its quarantine list and what the terminal shows."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_prep import readers
from data_prep.check import report, run, screen
from data_prep.check.decode import VERSION
from data_prep.check.verdicts import SILENCE, Limits
from data_prep.label_words import OddLabels
from data_prep.places import Root


def check(
    corpus: str,
    root: Path,
    links_to: tuple[Path, ...],
    out: Path,
    limits: Limits,
    *,
    media: Mapping[str, Any],
    held_out: tuple[Path, ...] = (),
    model: Path | None = None,
    workers: int | None = None,
    quarantine: Path | None = None,
    odd_labels: OddLabels = "refuse",
    reasons: Path | None = None,
    train: bool = False,
) -> int:
    """Check a corpus, write OUT/report.json and the quarantine list, print tables; returns the clips to be dropped.

    `media` is how training will decode (preset.media); it decides the tokens of a prompt.
    Raises CorpusError where the corpus, a held-out shard or the model cannot be read.
    """
    reader, begun = readers.get(corpus).with_odd_labels(odd_labels), time.monotonic()
    reader = reader.for_training() if train else reader
    reader = reader.with_reasons(reasons) if reasons else reader
    if media.get("use_audio_in_video"):
        reader = replace(reader, audio=None)  # the video's own track is what training will hear
    count_tokens = None
    if model:
        from data_prep.check.tokens import counter

        count_tokens = counter(model, media)
    options = run.Options(limits, held_out, count_tokens, workers or len(os.sched_getaffinity(0)))
    with run.open_results(out, limits) as results:
        done = run.check(reader, Root(root, links_to), results, options)
        head = {
            "corpus": corpus,
            "root": str(root.absolute()),
            "published": reader.published,
            "settings": {
                **asdict(limits),
                "silence_dbfs": SILENCE,
                "held_out": [str(shard) for shard in held_out],
                "model": str(model) if model else None,
                "media": dict(media),
                "odd_labels": odd_labels,
                "reasons": str(reasons) if reasons else None,
                "train": train,
            },
            "versions": {"check": VERSION, **{name: version(name) for name in ("av", "numpy")}},
            "files_decoded": done.decoded,
            "files_remembered": done.remembered,
            "elapsed_seconds": round(time.monotonic() - begun, 3),
        }
        report.write_report(results, out / report.FILE, head)
        if quarantine:
            report.write_quarantine(results, quarantine, corpus)
        screen.show(results, f"{reader.title}: {root}", limits.max_prompt_length)
        return report.clips_with(results, "drop")
