"""Frames of a shard's clips for pages: which row a response is about, and some of its frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from recipe.mer_r1.eval.judge.frames import data_urls
from recipe.mer_r1.files.errors import InputError
from verl_ext.data.demux import MediaError

_COLUMNS = ("videos", "reward_model", "extra_info")


@dataclass(frozen=True)
class Picture:
    """Frames of a clip as data URLs, or why there are none."""

    frames: Sequence[str] = ()
    missing: str = ""


@dataclass(frozen=True)
class Shards:
    """Where the clips of a run are.

    Attributes:
        paths: parquet files.
        media_root: folder that relative paths start from; None: the one that the shard names.
    """

    paths: tuple[str, ...]
    media_root: str | None = None


def shards_of(preset: Mapping[str, Any], key: str) -> Shards:
    """Those of a run's configuration; `key`: train_files or val_files."""
    files = preset.get(key) or ()
    paths = (files,) if isinstance(files, str) else tuple(files)
    return Shards(tuple(map(str, paths)), preset.get("media_root"))


def row_of(response: Mapping[str, Any], shards: Shards) -> Mapping[str, Any]:
    """The shard's row that a saved response answers.

    The file names the clip (`clip`). In files of earlier versions the row is found by its labels and its subtitle.

    Raises:
        InputError: a shard is missing, or the clip cannot be found there, or not with certainty.
        ShardError: a shard cannot be used.
    """
    if not shards.paths:
        raise InputError("the run's configuration names no shard")
    name, found = response.get("clip"), []
    for shard in shards.paths:
        found += [row for row in _rows(shard, shards.media_root) if _is_of(row, response, name)]
    if len(found) == 1:
        return found[0]
    where = ", ".join(shards.paths)
    if name:
        raise InputError(f"{where}: {'no clip' if not found else f'{len(found)} clips'} named {name!r}")
    raise InputError(
        f"{where}: {len(found)} clips have these labels and this subtitle; the file does not name the clip, as files "
        "of earlier versions"
    )


def _is_of(row: Mapping[str, Any], response: Mapping[str, Any], name: str | None) -> bool:
    facts = row["extra_info"]
    if name:
        return facts.get("name") == name
    return row["reward_model"]["ground_truth"] == response["gts"] and (facts.get("subtitle") or "") in response["input"]


@lru_cache(maxsize=4)
def _rows(shard: str, media_root: str | None) -> list[Mapping[str, Any]]:
    from verl_ext.data.shard_media import read_table

    if not Path(shard).is_file():
        raise InputError(f"{shard}: no such shard (seen from {Path.cwd()})")
    table = read_table(shard, media_root)
    if missing := [column for column in _COLUMNS if column not in table.column_names]:
        raise InputError(f"{shard}: column {', '.join(missing)} is missing")
    return list(_lines(table))


def _lines(table: Any) -> Iterator[Mapping[str, Any]]:
    for batch in table.select(_COLUMNS).to_batches():
        yield from batch.to_pylist()


def picture(row: Mapping[str, Any], fps: float, frames: int, side: int) -> Picture:
    """Some frames of a row's clip, decoded as for the models; a clip that cannot be decoded says why.

    Args:
        fps: frames per second at least, where the clip is short.
        frames: number at most, spread over the clip.
        side: pixels of a frame's longest side.
    """
    if not row["videos"]:
        return Picture(missing="the row has no video")
    try:
        return Picture(data_urls(row["videos"][0], fps, frames, side))
    except MediaError as error:
        return Picture(missing=str(error))
