"""The shards of MER-Micro, and `align`: one question a cue, for a short first stage of training from scratch."""

from __future__ import annotations

from pathlib import Path

from data_prep import readers, rows
from data_prep.build import build
from data_prep.micro.cues import CHANNELS
from data_prep.micro.plan import ClipPlan
from data_prep.options import Options
from data_prep.places import Root

DATA_SOURCE = "mer_micro"
SPLITS = ("sft", "rl", "test", "align")
QUESTIONS = {
    "face": "What does the face show?",
    "voice": "What does the voice show?",
    "words": "What do the words show?",
}


def write_micro_shards(out: Path, train: list[ClipPlan], *, sft: int, seed: int) -> dict[str, int]:
    """Write OUT/shards/{sft,rl,test,align}.parquet; returns the number of rows of each.

    `align` asks for the state of one cue of the SFT clips (three rows a clip, in clip order); the truth is one word,
    an emotion or "neutral". Its prompts hold video, audio and subtitle as those of the other shards do: only the
    question differs. Towers that start from random weights hardly learn from whole answers alone.
    """
    shards = out / "shards"
    options = Options(sft=sft, seed=seed, data_source=DATA_SOURCE)
    counts = build(readers.get("micro"), Root(out), shards, options)["rows"]
    cues = {plan.name: plan.cues for plan in train}
    with rows.ShardWriter(shards / "align.parquet", rows.schema(Root(out), embed=False)) as align:
        for row in rows.read(shards / "sft.parquet"):
            subtitle, name = row["extra_info"]["subtitle"], row["extra_info"]["name"]
            row["data_source"] = f"{DATA_SOURCE}_align"
            for channel in CHANNELS:
                row["prompt"] = [
                    {"role": "user", "content": f"<video><audio>Subtitle: {subtitle}\n{QUESTIONS[channel]}"}
                ]
                row["reward_model"] = {"style": "rule", "ground_truth": [cues[name][channel]]}
                row["extra_info"] = {**row["extra_info"], "index": align.rows, "split": "align", "reason": ""}
                align.write(dict(row))
    return {**counts, "align": align.rows}
