"""A shard's media columns as texts that can be opened anywhere: absolute paths, or references to embedded clips."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from verl_ext.data.embedded import references

MEDIA_ROOT = b"media_root"
"""Key of the schema's metadata: the folder that relative paths were made against."""
MEDIA_LINKS = b"media_links"
"""Key of the schema's metadata: folders that links under the root may lead to, a line each."""
SILENT = b"silent_rows"
"""Key of the schema's metadata: rows can be without sound although their video has some."""
MEDIA = ("videos", "audios")
LARGEST_GROUP = 1 << 30
"""Bytes of embedded clips that one row group may hold: who wants a clip reads all of its group."""


class ShardError(ValueError):
    """A parquet shard that cannot be used; the message names file, row, key and the way out."""


def is_silent(path: str | Path) -> bool:
    """Whether the shard has rows that are without sound on purpose."""
    return SILENT in (pq.read_schema(path).metadata or {})


def read_table(path: str | Path, media_root: str | Path | None = None) -> pa.Table:
    """The shard's table; `videos` and `audios` become list<string>, and embedded bytes stay in the file.

    Args:
        path: a parquet file.
        media_root: the folder that relative paths start from; None: the one that the shard names.

    Raises:
        ShardError: a media column has another type, a relative path cannot be resolved, or row groups are too large.
    """
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        embedded = [column for column in MEDIA if column in schema.names and _is_embedded(schema, column, path)]
        _check_groups(file, embedded, path)
        leaves = [file.schema.column(index).path for index in range(len(file.schema.names))]
        wanted = [leaf for leaf in leaves if not (leaf.split(".")[0] in embedded and leaf.endswith(".bytes"))]
        table = file.read(columns=wanted)
    metadata = schema.metadata or {}
    links = metadata.get(MEDIA_LINKS, b"").decode().split("\n")
    roots = _Roots(path, media_root or metadata.get(MEDIA_ROOT, b"").decode(), [link for link in links if link])
    for column in MEDIA:
        if column not in table.column_names:
            continue
        lists = table[column].to_pylist()
        if column in embedded:
            texts = references(path, column, [row and [item and item.get("path") for item in row] for row in lists])
        else:
            texts = [_row(roots.resolve, column, at, row) for at, row in enumerate(lists)]
        table = table.set_column(table.column_names.index(column), column, pa.array(texts, pa.list_(pa.string())))
    return table


def _is_embedded(schema: pa.Schema, column: str, path: str | Path) -> bool:
    kind = schema.field(column).type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    item = kind.value_type if is_list else None
    if pa.types.is_null(kind) or (is_list and any(test(item) for test in _TEXTS)):
        return False
    if is_list and pa.types.is_struct(item) and {"path", "bytes"} <= {field.name for field in item}:
        return True
    raise ShardError(
        f"{path}: `{column}` has type {kind}; it must be list<string> (paths) or list<struct<path: string, "
        "bytes: binary>> (embedded clips); see docs/data.md. Make the shard again (python -m data_prep)."
    )


_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)  # null: lists that are all empty


def _check_groups(file: pq.ParquetFile, embedded: list[str], path: str | Path) -> None:
    """A clip costs its row group: one group for a whole corpus would not fit in memory."""
    if not embedded:
        return
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        columns = (group.column(index) for index in range(group.num_columns))
        size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] in embedded)
        if size > LARGEST_GROUP:
            raise ShardError(
                f"{path}: row group {number} has {size >> 20} MiB of clips in {group.num_rows} rows, over "
                f"{LARGEST_GROUP >> 20} MiB. Write the shard with fewer rows per group (python -m data_prep writes 8)."
            )


def _row(resolve: Callable[[str, str], str], column: str, at: int, row: list[str | None] | None) -> list[str] | None:
    return row and [resolve(item, f"row {at}: `{column}`") for item in row]


class _Roots:
    """Relative paths of one shard made absolute."""

    def __init__(self, shard: str | Path, root: str | Path, links: list[str]) -> None:
        self._shard, self._root, self._links = shard, str(root), links
        self._real_folder = cache(os.path.realpath)  # clips share few folders

    def resolve(self, path: str | None, where: str) -> str:
        """An absolute path; a relative one under the root.

        Raises:
            ShardError: no root is known, or the path leads out of it.
        """
        if not path:
            raise ShardError(f"{self._shard} {where} has an empty path. Correct it and make the shard again.")
        if os.path.isabs(path):
            return path
        if not self._root:
            raise ShardError(
                f"{self._shard} {where} is the relative path {path!r}, but the shard has no media_root. Set "
                "preset.media_root (evaluation: --media-root) to the folder that the path is relative to."
            )
        if not os.path.isabs(self._root):
            self._root = os.path.abspath(self._root)
        whole = os.path.join(self._root, path)
        if ".." in PurePosixPath(path).parts or not self._inside(whole):
            raise ShardError(
                f"{self._shard} {where}: {path!r} points outside the media root {self._root}. Set preset.media_root "
                "(evaluation: --media-root) to the folder with all clips, or use absolute paths."
            )
        return whole

    def _inside(self, whole: str) -> bool:
        """Whether the file, links followed, is under the root or where its links may lead, links followed."""
        folder, name = os.path.split(whole)
        real = os.path.join(self._real_folder(folder), name)
        real = os.path.realpath(real) if os.path.islink(real) else real
        return any(real.startswith(os.path.join(self._real_folder(each), "")) for each in (self._root, *self._links))
