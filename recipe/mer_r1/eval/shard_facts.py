"""What answers alone do not tell: which corpus and prompts they are of, and which weights gave them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recipe.mer_r1.eval.answers import Answer, RunSettings
from recipe.mer_r1.eval.corpora import corpus_of
from recipe.mer_r1.eval.errors import InputError

_BLOCK, _BLOCKS = 1 << 16, 16


@dataclass(frozen=True)
class ShardFacts:
    """The clips of one result in their shard; hashes as in `results.Result`."""

    corpus: str
    split: str
    n: int
    names_sha256: str
    prompt_sha256: str


def shard_facts(path: Path, answers: Sequence[Answer]) -> ShardFacts:
    """Look the answered clips up in their shard.

    Raises:
        InputError: the shard is gone, was built anew with other clips, or holds several corpora.
    """
    from pyarrow import parquet

    if not path.is_file():
        raise InputError(
            f"{path}: the answers' shard is gone, and with it the name of the corpus. Put it back, or take the "
            "results.json that was written where it is."
        )
    rows = parquet.read_table(path, columns=["data_source", "prompt", "extra_info"]).to_pylist()
    for answer in answers:
        if answer.index >= len(rows) or rows[answer.index]["extra_info"]["name"] != answer.name:
            raise InputError(
                f"{path}: row {answer.index} is not {answer.name!r}: the shard was built anew; answer again"
            )
    taken = [rows[answer.index] for answer in sorted(answers, key=lambda answer: answer.name)]
    corpora = sorted({corpus_of(row["data_source"]) for row in taken})
    if len(corpora) > 1:
        raise InputError(f"{path}: holds several corpora ({', '.join(corpora)}); a table has a column for each alone")
    names = [row["extra_info"]["name"] for row in taken]
    splits = sorted({row["extra_info"].get("split") or "" for row in taken})
    prompts = [[name, row["prompt"]] for name, row in zip(names, taken, strict=True)]
    return ShardFacts(corpora[0], ", ".join(splits), len(rows), _sha256(names), _sha256(prompts))


def weights_sha256(settings: RunSettings) -> str | None:
    """A cheap fingerprint of a model's weights: names, sizes, and 16 blocks of 64 KiB spread over each file.

    It tells training runs and steps apart, since those change nearly every weight; it is no proof against tampering.
    None where files are gone or newer than the answers.
    """
    digest = hashlib.sha256()
    if not settings.weights:
        return None
    for name, size, changed in settings.weights:
        path = Path(settings.model) / name
        if not path.is_file() or [path.stat().st_size, path.stat().st_mtime_ns] != [size, changed]:
            return None
        digest.update(f"{name}:{size};".encode())
        with path.open("rb") as file:
            for block in range(_BLOCKS):
                file.seek(max(0, size - _BLOCK) * block // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()
