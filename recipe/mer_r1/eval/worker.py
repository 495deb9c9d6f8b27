"""One of the processes that :mod:`.workers` starts: `python -m recipe.mer_r1.eval.worker JOB.json`.

It loads the model into a vLLM of its own, and writes the answers that the job asks for, each at once, into the job's
folders. The process that has started it has checked everything, and joins the answers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from recipe.mer_r1.eval.clip_sets import ClipSet
from recipe.mer_r1.eval.generate import Asked, Generation
from recipe.mer_r1.method.wheel import load_wheels


def main(path: Path) -> None:
    """Answer what the job asks for."""
    job = json.loads(path.read_bytes())
    preset = OmegaConf.create(job["preset"])
    todo = [*generations(job, preset.media.use_audio_in_video)]
    from recipe.mer_r1.eval.rollout import Rollout

    rollout = Rollout(job["model"], preset, job["max_tokens"], job["form"])
    for made, asked in todo:
        made(rollout, lambda: None, asked)


def generations(job: Mapping[str, Any], use_audio_in_video: bool) -> Iterator[tuple[Generation, list[Asked]]]:
    """Of each shard of a job, and what is asked for of it."""
    wheels = load_wheels(job["wheels"])
    for each in job["shards"]:
        shard = Path(each["shard"])
        clips = ClipSet(shard, "", "", 0, "", _rows(shard, job["media_root"], use_audio_in_video))
        given = each["modes"], each["temperature"], each["seed"], wheels, each["samples"], job["form"]
        yield Generation(Path(each["folder"]), clips, *given), [tuple(one) for one in each["asked"]]


def _rows(shard: Path, media_root: str | None, use_audio_in_video: bool) -> Any:
    """As `load_clip_sets` has them, without its checks of every clip: they were made before."""
    from verl_ext.data.dataset import load_shard, sound_from_video

    rows = load_shard(shard, media_root=media_root)
    return sound_from_video(rows) if use_audio_in_video else rows


if __name__ == "__main__":
    main(Path(sys.argv[1]))
