"""The shards of MER-Micro: sft, rl, test, and those that teach perception: `align` or, in generator 2, `base`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep import readers, rows
from data_prep.build import build
from data_prep.micro.cues import CHANNELS
from data_prep.micro.plan import ClipPlan
from data_prep.options import Options
from data_prep.places import Root
from data_prep.readers.micro import BASE

DATA_SOURCE = "mer_micro"
SPLITS = {1: ("sft", "rl", "test", "align"), 2: ("base", "sft", "rl", "test")}
QUESTIONS = {
    "face": "What does the face show?",
    "voice": "What does the voice show?",
    "words": "What do the words show?",
}


def write_micro_shards(out: Path, plans: dict[str, list[ClipPlan]], *, generator: int, sft: int, seed: int) -> dict:
    """Write OUT/shards/{sft,rl,test}.parquet and `align` or `base`; returns the number of rows of each.

    `align` (generator 1) asks for the state of each cue of the SFT clips. `base` (generator 2) has two rows for each
    base clip: one asks for the labels, one for the state of one cue, by turns. It has no reasons, so SFT teaches the
    answer alone.
    """
    root, shards = Root(out), out / "shards"
    counts = build(readers.get("micro"), root, shards, Options(sft=sft, seed=seed, data_source=DATA_SOURCE))["rows"]
    plan_of = {plan.name: plan for each in plans.values() for plan in each}
    split = "align" if generator == 1 else "base"
    source = rows.read(shards / "sft.parquet") if generator == 1 else _base_rows(root)
    with rows.ShardWriter(shards / f"{split}.parquet", rows.schema(root, embed=False)) as writer:
        for number, row in enumerate(source):
            about = [_about_cue(row, plan_of[row["extra_info"]["name"]], channel) for channel in CHANNELS]
            for each in about if generator == 1 else [row, about[number % len(about)]]:
                each["extra_info"] = {**each["extra_info"], "index": writer.rows, "split": split, "reason": ""}
                writer.write(each)
    return {**counts, split: writer.rows}


def _base_rows(root: Root) -> Iterator[dict[str, Any]]:
    return (rows.to_row(clip, root.folder, data_source=DATA_SOURCE) for clip in BASE.clips(root))


def _about_cue(row: dict[str, Any], plan: ClipPlan, channel: str) -> dict[str, Any]:
    """The row with a question about one cue: the truth is one word, an emotion or "neutral".

    The prompt holds video, audio and subtitle as those of the other rows do: only the question differs. Towers that
    start from random weights hardly learn from whole answers alone.
    """
    content = f"<video><audio>Subtitle: {row['extra_info']['subtitle']}\n{QUESTIONS[channel]}"
    return {
        **row,
        "data_source": f"{DATA_SOURCE}_align",
        "prompt": [{"role": "user", "content": content}],
        "reward_model": {"style": "rule", "ground_truth": [plan.cues[channel]]},
    }
