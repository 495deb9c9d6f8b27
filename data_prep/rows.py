"""Parquet rows with verl's columns, written as they come: memory does not grow with their number."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.clip import Clip
from data_prep.options import Part
from data_prep.places import Root
from recipe.mer_r1.files.whole import PART
from recipe.mer_r1.method.answer import build_prompt
from verl_ext.data.shard_media import MEDIA_LINKS, MEDIA_ROOT, SILENT

EMBEDDED_ROWS = 8
"""Rows of a group with embedded clips: what a reader of one row loads."""
_ROWS = 1_000
_BY_PATH = pa.list_(pa.string())
_EMBEDDED = pa.list_(pa.struct({"path": pa.string(), "bytes": pa.binary()}))


def schema(root: Root, *, embed: bool, silent: bool = False) -> pa.Schema:
    """Columns of a shard; media by path relative to the root's folder, or embedded.

    Args:
        silent: whether rows can be without sound although their video has some.
    """
    media = _EMBEDDED if embed else _BY_PATH
    fields = {
        "data_source": pa.string(),
        "prompt": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "videos": media,
        "audios": media,
        "reward_model": pa.struct({"style": pa.string(), "ground_truth": pa.list_(pa.string())}),
        "extra_info": pa.struct(
            {
                "index": pa.int64(),
                "name": pa.string(),
                "split": pa.string(),
                "subtitle": pa.string(),
                "reason": pa.string(),
                "value": pa.float64(),
                "options": pa.list_(pa.string()),
                "group": pa.string(),
            }
        ),
    }
    links = "\n".join(str(folder.absolute()) for folder in root.links_to)
    about = {} if embed else {MEDIA_ROOT: str(root.folder.absolute()).encode(), MEDIA_LINKS: links.encode()}
    return pa.schema(fields, (about | ({SILENT: b"yes"} if silent else {})) or None)


def to_row(clip: Clip, root: Path, *, data_source: str, without: Collection[Part] = ()) -> dict[str, Any]:
    """A row of `schema`, media by relative path; `index` and `split` are set where the row finds its shard.

    Args:
        without: parts that the row is written without; its prompt then has no placeholder for them.
    """
    sound = None if clip.silent else clip.audio or clip.video
    videos = [_relative(clip.video, root)] if clip.video and "picture" not in without else []
    audios = [_relative(sound, root)] if sound and "sound" not in without else []
    subtitle = "" if "subtitle" in without else clip.subtitle
    prompt = build_prompt(subtitle, clip.options)
    for placeholder, files in (("<video>", videos), ("<audio>", audios)):
        prompt = prompt if files else prompt.replace(placeholder, "", 1)
    return {
        "data_source": f"{data_source}/{clip.group}" if clip.group else data_source,
        "prompt": [{"role": "user", "content": prompt}],
        "videos": videos,
        "audios": audios,
        "reward_model": {"style": "rule", "ground_truth": list(clip.labels)},
        "extra_info": {
            "index": 0,
            "name": clip.name,
            "split": "",
            "subtitle": subtitle,
            "reason": clip.reason,
            "value": clip.value,
            "options": list(clip.options),
            "group": clip.group,
        },
    }


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


class ShardWriter:
    """Writes a parquet file row by row; the file appears at the end, or not at all."""

    def __init__(self, path: Path, columns: pa.Schema) -> None:
        self._path, self._part = path, path.with_name(f"{path.name}.{os.getpid()}{PART}")
        self._columns, self.rows = columns, 0
        self._group = EMBEDDED_ROWS if columns.field("videos").type == _EMBEDDED else _ROWS
        self._waiting: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = pq.ParquetWriter(self._part, self._columns)
        return self

    def write(self, row: dict[str, Any]) -> None:
        """Add a row."""
        self._waiting.append(row)
        self.rows += 1
        if len(self._waiting) == self._group:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_table(pa.Table.from_pylist(self._waiting, schema=self._columns))
            self._waiting.clear()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._flush()
        self._file.close()
        if kind is None:
            os.replace(self._part, self._path)
        else:
            self._part.unlink(missing_ok=True)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a shard in order, some hundred at a time."""
    with pq.ParquetFile(path) as file:
        for piece in file.iter_batches(batch_size=_ROWS):
            yield from piece.to_pylist()
