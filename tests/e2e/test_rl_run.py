"""RL by its real command, at its smallest: two ranks, a clip that breaks, export. Ray, vLLM, FSDP."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rl_runs import ROOT, START_SECONDS, Run

from data_prep import readers
from data_prep.build import build
from data_prep.options import Options
from data_prep.places import Root
from recipe.mer_r1.run import steps

pytestmark = pytest.mark.e2e
BROKEN_ROW = 3
"""Of the second step. The checks before a run decode four rows of the shard, and this is none of them."""


def test_two_ranks_with_embedded_clips_and_the_sound_inside_the_video_until_a_clip_breaks(
    micro_corpus, tiny_model, tmp_path, nothing_stays
) -> None:
    """Two FSDP ranks over gloo, two vLLM replicas; clips inside the shards and a cache; sound among the frames."""
    build(readers.get("micro"), Root(micro_corpus), tmp_path / "shards", Options(embed=True))
    shards = {split: tmp_path / "shards" / f"{split}.parquet" for split in ("rl", "test")}
    break_clip(shards["rl"], BROKEN_ROW)
    cache, out = tmp_path / "clips", tmp_path / "rl"
    sizes = ("preset.ranks_per_node=2", "preset.steps=500", "preset.save_every=1")
    media = ("preset.media.use_audio_in_video=true", f"preset.media.cache_folder={cache}")
    run = Run(out, tiny_model, shards, *sizes, *media)
    assert run.wait(START_SECONDS) not in (0, 75, 130)
    assert f"{shards['rl']} row {BROKEN_ROW}: train/video/" in run.text
    assert "4 of 8 responses are missing" in run.text
    nothing_stays()

    (taken,) = steps.read(out / "metrics.jsonl").values()
    # There is no old-log-prob pass in this run: the update measures what the pass would.
    assert "no pass for them" in run.text
    assert taken["timing_s/old_log_prob"] < 0.1 < taken["timing_s/update_actor"]
    assert 0 < taken["rollout_actor_log_prob_diff/mean"] < taken["rollout_actor_log_prob_diff/max"] < 1e-5
    assert taken["actor/entropy"] == pytest.approx(taken["actor/entropy_loss"], rel=1e-6)  # nothing is missing
    assert taken["actor/ppo_kl"] == 0
    assert taken["reward/missing"] == 0
    assert any(file.stat().st_size > 10_000 for file in cache.rglob("*") if file.is_file()), "no decoded clip was kept"
    exported_and_checked(out, tmp_path / "model")  # from two ranks' shards
    nothing_stays()


def break_clip(shard: Path, row: int) -> None:
    """Cut an embedded video off."""
    table = pq.read_table(shard)
    videos = table["videos"].to_pylist()
    videos[row][0]["bytes"] = videos[row][0]["bytes"][:1500]
    at = table.column_names.index("videos")
    pq.write_table(table.set_column(at, table.field(at), pa.array(videos, table.field(at).type)), shard)


def exported_and_checked(run_dir: Path, out: Path) -> None:
    """The command's own check: transformers' names of all tensors, vLLM's log-probs against transformers'."""
    command = ("-m", "recipe.mer_r1.export", str(run_dir), "--out", str(out), "--check")
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, timeout=START_SECONDS)
    assert "pipeline_tag" in (out / "README.md").read_text()
