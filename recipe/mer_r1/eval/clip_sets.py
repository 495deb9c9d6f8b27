"""The shards of an evaluation, checked, and the folder that each one's answers go to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipe.mer_r1.eval.corpora import corpus_of
from recipe.mer_r1.eval.fingerprints import clips_sha256


@dataclass(frozen=True)
class ClipSet:
    """A shard's clips.

    Attributes:
        corpus: the rows' `data_source` without its part (mme_emotion/ER-Lab is of mme_emotion); several are joined.
        split: the rows' split; several are joined.
        n: rows of the whole shard.
        sha256: of the whole shard (`fingerprints.clips_sha256`).
        rows: those to be answered, in the shard's order.
    """

    shard: Path
    corpus: str
    split: str
    n: int
    sha256: str
    rows: Any


def load_clip_sets(
    shards: Sequence[Path], media_root: Path | None, use_audio_in_video: bool, limit: int | None
) -> list[ClipSet]:
    """Read and check all shards; `limit` rows of each at most.

    Raises:
        FileNotFoundError: there is no such shard.
        ValueError: a shard is named twice. ShardError, which is one: a shard or a row cannot be used.
    """
    check_shards(shards)
    twice = [str(shard) for shard, count in Counter(path.resolve() for path in shards).items() if count > 1]
    if twice:
        raise ValueError(f"{', '.join(twice)}: given twice; give each shard once")
    return [_load(shard, media_root, use_audio_in_video, limit) for shard in shards]


def check_shards(shards: Sequence[Path]) -> None:
    """They are files; FileNotFoundError otherwise."""
    for shard in shards:
        if not shard.is_file():
            raise FileNotFoundError(f"{shard}: no such file. Make shards with `python -m data_prep`.")


def _load(shard: Path, media_root: Path | None, use_audio_in_video: bool, limit: int | None) -> ClipSet:
    from verl_ext.data.dataset import load_clips

    rows = load_clips(shard, media_root, use_audio_in_video, labelled=False)
    about = rows.select_columns(["data_source", "prompt", "reward_model", "extra_info"]).to_list()
    return ClipSet(
        shard=shard.resolve(),
        corpus="+".join(sorted({corpus_of(row["data_source"]) for row in about})),
        split="+".join(sorted({row["extra_info"].get("split") or "" for row in about} - {""})),
        n=len(rows),
        sha256=clips_sha256(about),
        rows=rows.select(range(limit)) if limit is not None and limit < len(rows) else rows,
    )


def folder_names(sets: Sequence[ClipSet]) -> list[str]:
    """A folder for each: its corpus; with its split, where a corpus is there twice.

    Raises:
        ValueError: two shards are of one corpus and split.
    """
    times = Counter(clips.corpus for clips in sets)
    names = [clips.corpus if times[clips.corpus] == 1 else f"{clips.corpus}-{clips.split}" for clips in sets]
    for name, count in Counter(names).items():
        if count > 1:
            same = ", ".join(str(clips.shard) for clips, own in zip(sets, names, strict=True) if own == name)
            raise ValueError(f"{same} all belong to {name}; answer each with its own --out")
    return names
