"""The shards of MER-Micro, and `align`: one question a cue, for a short first stage of training from scratch."""

from __future__ import annotations

from pathlib import Path

from data_prep.corpus import read_mer2025
from data_prep.micro.cues import CHANNELS
from data_prep.micro.plan import ClipPlan
from data_prep.shards import split_sft, to_row, write_parquet, write_shards

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
    counts = write_shards(out / "train", shards, sft=sft, seed=seed, test_corpus=out / "test", data_source=DATA_SOURCE)
    cues = {plan.name: plan.cues for plan in train}
    rows = []
    for clip in split_sft(read_mer2025(out / "train"), sft, seed)[0]:
        for channel in CHANNELS:
            row = to_row(clip, index=len(rows), split="align", data_source=f"{DATA_SOURCE}_align")
            row["prompt"][0]["content"] = f"<video><audio>Subtitle: {clip.subtitle}\n{QUESTIONS[channel]}"
            row["reward_model"]["ground_truth"] = [cues[clip.name][channel]]
            row["extra_info"]["reason"] = ""
            rows.append(row)
    write_parquet(rows, shards / "align.parquet")
    return {**counts, "align": len(rows)}
