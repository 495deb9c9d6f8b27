"""A few clips of the newest validation with their answers, as verl dumps them in RUN_DIR/validation/STEP.jsonl."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from recipe.mer_r1.eval.clip_pictures import Shards, picture, row_of, shards_of
from recipe.mer_r1.run import record

_MOST_LINES = 400  # that are looked at for slow and fast answers of one clip
_FPS, _FRAMES, _SIDE = 1.0, 3, 160


@dataclass(frozen=True)
class Reply:
    """A reply with the prefix that it was made to begin with, and its F1."""

    text: str
    f1: float


@dataclass
class Clip:
    """A clip of the validation.

    Attributes:
        name: empty where neither the file nor the shard tells it.
        subtitle: of its prompt; empty: none.
        labels: the true words.
        replies: by mode, slow or fast.
        frame: of its middle, a data URL; empty with `missing`, the reason.
    """

    name: str
    subtitle: str
    labels: str
    replies: dict[str, Reply] = field(default_factory=dict)
    frame: str = ""
    missing: str = ""


def newest(run_dir: Path, count: int) -> tuple[int, list[Clip]]:
    """(step, its first clips); (0, []) where the run has not validated. Half a line at the end is left out."""
    files = {int(file.stem): file for file in (run_dir / "validation").glob("*.jsonl") if file.stem.isdigit()}
    if not files:
        return 0, []
    step = max(files)
    with files[step].open(encoding="utf-8", errors="replace", newline="\n") as file:
        rows = [json.loads(line) for line in islice(file, _MOST_LINES) if line.endswith("\n")]
    return step, _clips(rows, count, _shards(run_dir))


def _clips(rows: Iterable[Mapping[str, Any]], count: int, shards: Shards) -> list[Clip]:
    found: dict[Any, tuple[Clip, Mapping[str, Any]]] = {}
    for row in rows:
        prompt, _, prefix = row["input"].rpartition("assistant\n")
        key = row.get("clip") or (prompt, tuple(row["gts"]))
        if key not in found and len(found) < count:
            subtitle = re.search(r"^Subtitle: (.*)$", prompt, re.MULTILINE)
            clip = Clip(row.get("clip") or "", subtitle[1] if subtitle else "", ", ".join(row["gts"]))
            found[key] = clip, row
        if key in found:
            mode = "fast" if "</think>" in prefix else "slow"
            found[key][0].replies.setdefault(mode, Reply(prefix + row["output"], row["f1"]))
    for clip, row in found.values():
        facts = {name: row.get(name) for name in ("clip", "input")} | {"gts": row["gts"]}
        name, clip.frame, clip.missing = _look(json.dumps(facts), shards)
        clip.name = clip.name or name
    return [clip for clip, _ in found.values()]


def _shards(run_dir: Path) -> Shards:
    config = record.read_config(run_dir)
    if config is None:
        return Shards(())
    own = OmegaConf.select(config, "data.val_files")  # of an SFT run that does not take those of its preset
    return shards_of({**(config.get("preset") or {}), **({"val_files": own} if own else {})}, "val_files")


@lru_cache(maxsize=64)  # the page is written many times between two validations
def _look(response: str, shards: Shards) -> tuple[str, str, str]:
    """Name of the clip, data URL of a frame, or why there is none: whatever is wrong, the page is written."""
    try:
        row = row_of(json.loads(response), shards)
        found = picture(row, _FPS, _FRAMES, _SIDE)
    except (ValueError, OSError) as error:  # InputError and ShardError are ValueErrors
        return "", "", str(error)
    name = row["extra_info"].get("name") or ""
    return (name, found.frames[len(found.frames) // 2], "") if found.frames else (name, "", found.missing)
