"""Clips that must not be trained on: other shards, and the corpus's own test set; by name and by content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_prep.check.look import Look
from data_prep.check.results import Results
from data_prep.clip import CorpusError
from verl_ext.data.shard_media import MEDIA_ROOT

_ROWS = 16  # read at a time; a row may hold its clip

_IN_TEST = """
INSERT INTO verdict SELECT c.number, 'in_test_too', 'drop',
    c.at || ': clip ''' || c.name || ''': ' || min(found.what) || '; remove it from one of them'
FROM (
    SELECT c.number, 'its video has the same bytes as ''' || h.name || ''' in ' || h.shard AS what
        FROM clip c JOIN held h ON h.sha = c.sha
    UNION ALL SELECT c.number, 'the clip ''' || h.name || ''' is in ' || h.shard FROM clip c JOIN held h USING (name)
) found JOIN clip c USING (number) WHERE c.part = 'train' GROUP BY c.number
"""
_SAME_CONTENT = """
INSERT INTO verdict SELECT c.number, 'duplicate_content', 'note',
    c.at || ': clip ''' || c.name || ''': ' || c.video || ': has the same bytes as the video of clip ''' || f.name
    || '''; keep one of them if their labels differ'
FROM clip c JOIN (SELECT sha, min(number) AS number FROM clip WHERE sha IS NOT NULL GROUP BY sha HAVING count(*) > 1) m
    ON c.sha = m.sha JOIN clip f ON f.number = m.number
WHERE c.number > f.number AND c.video != f.video
"""


def entries(shard: Path) -> Iterator[tuple[str, Look | bytes]]:
    """(name, video to be hashed, or the hash of one that lies in the shard) of every row. Raises CorpusError."""
    try:
        with pq.ParquetFile(shard) as file:
            root = Path((file.schema_arrow.metadata or {}).get(MEDIA_ROOT, b"").decode())
            for piece in file.iter_batches(batch_size=_ROWS, columns=["videos", "extra_info.name"]):
                for row in piece.to_pylist():
                    for video in row["videos"]:
                        yield row["extra_info"]["name"], _video(video, root, shard)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(f"--held-out {shard}: not a shard written by data_prep ({error})") from error


def _video(video: Any, root: Path, shard: Path) -> Look | bytes:
    if isinstance(video, dict) and video["bytes"]:
        return hashlib.sha256(video["bytes"]).digest()
    path = root / (video["path"] if isinstance(video, dict) else video)
    if not path.is_file():
        raise CorpusError(
            f"--held-out {shard}: its clip {path} does not exist, so contents cannot be compared; "
            "build the shard again from the folder where the clips are now"
        )
    return Look(path, "")


def compare(results: Results) -> None:
    """Add the verdicts `in_test_too` and `duplicate_content`, once all clips and held-out rows are there."""
    results.base.execute(
        "INSERT INTO held SELECT sha, name, 'the corpus''s test set' FROM clip WHERE part = 'test' AND sha IS NOT NULL"
    )
    results.base.execute(_IN_TEST)
    results.base.execute(_SAME_CONTENT)
