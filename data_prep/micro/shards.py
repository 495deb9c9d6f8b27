"""The shards of MER-Micro: sft, rl, test; base (generator 2), direct answers; align, one question for each cue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data_prep import readers, rows
from data_prep.build import build
from data_prep.micro.cues import CHANNELS
from data_prep.micro.plan import ClipPlan
from data_prep.options import Options
from data_prep.places import Root
from data_prep.readers.micro import BASE

Row = dict[str, Any]
DATA_SOURCE = "mer_micro"
SPLITS = {1: ("sft", "rl", "test", "align"), 2: ("base", "sft", "rl", "test", "align")}
QUESTIONS = {
    "face": "What does the face show?",
    "voice": "What does the voice show?",
    "words": "What do the words show?",
}


def write_micro_shards(out: Path, plans: dict[str, list[ClipPlan]], *, generator: int, sft: int, seed: int) -> dict:
    """Write OUT/shards/{sft,rl,test,align}.parquet, and `base` in generator 2; returns the number of rows of each.

    `base` asks for the labels of the base clips and of the SFT clips, without a reason, so that a model learns to
    answer directly. `align` asks for the state of each cue of the same clips (of the SFT clips in generator 1).
    """
    root, shards = Root(out), out / "shards"
    counts = build(readers.get("micro"), root, shards, Options(sft=sft, seed=seed, data_source=DATA_SOURCE))["rows"]
    cues = {plan.name: plan.cues for each in plans.values() for plan in each}

    def seen() -> Iterator[Row]:
        """Rows of the clips that a model sees before RL."""
        if generator == 2:
            yield from (rows.to_row(clip, root.folder, data_source=DATA_SOURCE) for clip in BASE.clips(root))
        yield from rows.read(shards / "sft.parquet")

    if generator == 2:
        counts |= _write("base", seen(), root)
    questions = (_about_cue(row, channel, cues) for row in seen() for channel in CHANNELS)
    return counts | _write("align", questions, root)


def _write(split: str, each: Iterable[Row], root: Root) -> dict[str, int]:
    """A shard of rows without reasons; its number of rows by its name."""
    with rows.ShardWriter(root.folder / "shards" / f"{split}.parquet", rows.schema(root, embed=False)) as writer:
        for row in each:
            extra = {**row["extra_info"], "index": writer.rows, "split": split, "reason": ""}
            writer.write({**row, "extra_info": extra})
    return {split: writer.rows}


def _about_cue(row: Row, channel: str, cues: dict[str, dict[str, str]]) -> Row:
    """The row with a question about one cue: the truth is one word, an emotion or "neutral".

    The prompt holds video, audio and subtitle as those of the other rows do: only the question differs. Towers that
    start from random weights hardly learn from long answers alone.
    """
    content = f"<video><audio>Subtitle: {row['extra_info']['subtitle']}\n{QUESTIONS[channel]}"
    return {
        **row,
        "data_source": f"{DATA_SOURCE}_align",
        "prompt": [{"role": "user", "content": content}],
        "reward_model": {"style": "rule", "ground_truth": [cues[row["extra_info"]["name"]][channel]]},
    }
