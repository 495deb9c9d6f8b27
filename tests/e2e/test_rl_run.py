"""RL by its real command, at its smallest: a clip that breaks; two ranks, Ctrl-C, export. Ray, vLLM, FSDP."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rl_runs import ROOT, START_SECONDS, Run, shards_of

from data_prep import readers
from data_prep.build import build
from data_prep.options import Options
from data_prep.places import Root
from recipe.mer_r1.run import steps

pytestmark = pytest.mark.e2e


def test_a_clip_that_breaks_stops_the_run_and_is_named(micro_corpus, tiny_model, tmp_path, nothing_stays) -> None:
    """The first checks decode every other row of these eight, so that the second one's clip passes them."""
    from verl_ext.data.dataset import load_shard

    shards = shards_of(micro_corpus)
    rows = load_shard(shards["rl"]).to_list()[:8]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(Path(rows[1]["videos"][0]).read_bytes()[:1500])
    rows[1]["videos"] = [str(broken)]
    shards["rl"] = tmp_path / "broken.parquet"
    pq.write_table(pa.Table.from_pylist(rows), shards["rl"])
    sizes = ("preset.prompts_per_step=8", "preset.responses_per_prompt=2", "preset.steps=1")
    run = Run(tmp_path / "rl", tiny_model, shards, *sizes)
    assert run.wait(START_SECONDS) not in (0, 130)
    assert str(broken) in run.text
    assert "2 of 16 responses are missing" in run.text
    nothing_stays()


def test_two_ranks_with_embedded_clips_and_the_sound_inside_the_video_until_ctrl_c(
    micro_corpus, tiny_model, tmp_path, nothing_stays
) -> None:
    """Two FSDP ranks over gloo, two vLLM replicas; clips inside the shards and a cache; sound among the frames."""
    build(readers.get("micro"), Root(micro_corpus), tmp_path / "shards", Options(embed=True))
    shards = {split: tmp_path / "shards" / f"{split}.parquet" for split in ("rl", "test")}
    cache, out = tmp_path / "clips", tmp_path / "rl"
    sizes = ("preset.ranks_per_node=2", "preset.steps=500", "preset.save_every=1")
    media = ("preset.media.use_audio_in_video=true", f"preset.media.cache_folder={cache}")
    run = Run(out, tiny_model, shards, *sizes, *media)
    run.await_step(1)
    run.process.send_signal(signal.SIGINT)
    assert run.wait(20) == 130  # alone on the machine: in 5 s
    assert "interrupted; all its processes have ended. The last checkpoint is that of step " in run.text
    assert f"  python -m recipe.mer_r1.main_ppo preset=tiny experiment=baseline run_dir={out}" in run.text
    nothing_stays()

    taken = steps.read(out / "metrics.jsonl")[1]
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


def exported_and_checked(run_dir: Path, out: Path) -> None:
    """The command's own check: transformers' names of all tensors, vLLM's log-probs against transformers'."""
    command = ("-m", "recipe.mer_r1.export", str(run_dir), "--out", str(out), "--check")
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, timeout=START_SECONDS)
    assert "pipeline_tag" in (out / "README.md").read_text()
