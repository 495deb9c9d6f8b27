"""Writing rows as a shard: by path, relative to a folder, or with their clips embedded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

EMBEDDED = pa.list_(pa.struct({"path": pa.string(), "bytes": pa.binary()}))
COLUMNS = ("data_source", "prompt", "videos", "audios", "reward_model", "extra_info")


def write(rows: Sequence[Mapping[str, Any]], path: Path, root: str | None = None) -> Path:
    """Media as the rows have them; `root` is the metadata's media_root."""
    table = pa.Table.from_pylist([{name: row[name] for name in COLUMNS} for row in rows])
    pq.write_table(table.replace_schema_metadata({"media_root": root} if root else None), path)
    return path


def write_embedded(rows: Sequence[Mapping[str, Any]], path: Path, group: int = 2) -> Path:
    """Clips inside the file, `group` rows a row group."""
    table = pa.Table.from_pylist([{name: row[name] for name in COLUMNS} for row in rows])
    for column in ("videos", "audios"):
        clips = [
            [{"path": "/".join(Path(file).parts[-2:]), "bytes": Path(file).read_bytes()} for file in row[column]]
            for row in rows
        ]
        table = table.set_column(table.column_names.index(column), column, pa.array(clips, EMBEDDED))
    pq.write_table(table, path, row_group_size=group)
    return path
