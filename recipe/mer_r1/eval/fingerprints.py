"""What decides whether two results compare, as hashes: a model's weights, a prompt, the clips of a shard."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recipe.mer_r1.method.answer import labels_of

_BLOCK, _BLOCKS = 1 << 16, 16


def sha256(value: Any) -> str:
    """Of anything that JSON can write."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()


def clips_sha256(rows: Iterable[Mapping[str, Any]]) -> str:
    """Of names, corpora, prompts and true labels of a shard's rows, in their order; not of the media files."""
    return sha256(
        [[row["extra_info"]["name"], row["data_source"], row["prompt"], labels_of(row["reward_model"])] for row in rows]
    )


def weights_sha256(model: Path) -> str:
    """A cheap fingerprint of a model folder's weights: names, sizes, and 16 blocks of 64 KiB spread over each file.

    It tells training runs and steps apart, since those change nearly every weight; it is no proof against tampering.
    """
    digest = hashlib.sha256()
    for path in sorted(model.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size};".encode())
        with path.open("rb") as file:
            for block in range(_BLOCKS):
                file.seek(max(0, size - _BLOCK) * block // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()
