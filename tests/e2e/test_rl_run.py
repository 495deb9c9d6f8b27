"""RL by its real command, at its smallest: Ctrl-C, resume, export, a clip that breaks, two ranks. Ray, vLLM, FSDP."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rl_runs import END_SECONDS, ROOT, START_SECONDS, Run, shards_of

from data_prep import readers
from data_prep.build import Options, build
from data_prep.places import Root
from recipe.mer_r1 import steps

pytestmark = pytest.mark.e2e


def test_ctrl_c_leaves_nothing_and_the_run_goes_on(micro_corpus, tiny_model, tmp_path, nothing_stays) -> None:
    out = tmp_path / "rl"
    options = (out, tiny_model, shards_of(micro_corpus), "preset.save_every=1")
    run = Run(*options, "preset.steps=500")
    saved = out / "checkpoints" / "latest_checkpointed_iteration.txt"
    deadline = time.monotonic() + START_SECONDS
    while not saved.exists() and run.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    run.process.send_signal(signal.SIGINT)
    assert run.wait(END_SECONDS) == 130
    assert "interrupted" in run.text
    nothing_stays()

    done = int(saved.read_text())
    again = Run(*options, f"preset.steps={done + 1}")
    assert again.wait(START_SECONDS) == 0
    assert f"global_step_{done}" in again.text  # what it goes on from
    taken = steps.read(out / "metrics.jsonl")
    # verl logs a step after it has saved it: Ctrl-C in between loses the line of the last saved step, and no other.
    assert {*range(1, done), done + 1} <= set(taken) <= {*range(1, done + 2)}
    assert taken[done + 1]["rollout_actor_log_prob_diff/max"] < 1e-5
    nothing_stays()
    loads_in_transformers(out / "model")
    answers_by_vllm(out / "model", shards_of(micro_corpus)["test"], tmp_path / "answers")


def loads_in_transformers(model: Path) -> None:
    from transformers import AutoProcessor

    from verl_ext.omni.model import Qwen2_5OmniThinkerPolicy

    _, found = Qwen2_5OmniThinkerPolicy.from_pretrained(model, output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    assert json.loads((model / "config.json").read_text())["architectures"] == ["Qwen2_5OmniModel"]
    assert AutoProcessor.from_pretrained(model).tokenizer.eos_token


def answers_by_vllm(model: Path, shard: Path, out: Path) -> None:
    command = ("-m", "recipe.mer_r1.main_eval", "run", "--limit", "2")
    paths = ("--model", str(model), "--data", str(shard), "--out", str(out))
    subprocess.run([sys.executable, *command, *paths], cwd=ROOT, check=True, timeout=START_SECONDS)
    scores = json.loads((out / "mer_micro" / "scores.json").read_text())["modes"]
    assert {mode: means["n"] for mode, means in scores.items()} == {"slow": 2, "fast": 2}


def test_a_clip_that_breaks_stops_the_run_and_is_named(micro_corpus, tiny_model, tmp_path, nothing_stays) -> None:
    """The first checks decode every other row of these eight, so that the second one's clip passes them."""
    from verl_ext.omni.dataset import load_shard

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


def test_two_ranks_with_embedded_clips_and_the_sound_inside_the_video(
    micro_corpus, tiny_model, tmp_path, nothing_stays
) -> None:
    """Two FSDP ranks over gloo, two vLLM replicas; clips inside the shards and a cache; sound among the frames."""
    build(readers.get("micro"), Root(micro_corpus), tmp_path / "shards", Options(embed=True))
    shards = {split: tmp_path / "shards" / f"{split}.parquet" for split in ("rl", "test")}
    cache = tmp_path / "clips"
    sizes = ("preset.ranks_per_node=2", "preset.steps=1")
    media = ("preset.media.use_audio_in_video=true", f"preset.media.cache_folder={cache}")
    run = Run(tmp_path / "rl", tiny_model, shards, *sizes, *media)
    assert run.wait(START_SECONDS) == 0
    taken = steps.read(tmp_path / "rl" / "metrics.jsonl")[1]
    assert taken["rollout_actor_log_prob_diff/max"] < 1e-5
    assert taken["reward/missing"] == 0
    assert any(file.stat().st_size > 10_000 for file in cache.rglob("*") if file.is_file()), "no decoded clip was kept"
    loads_in_transformers(tmp_path / "rl" / "model")  # merged from two ranks' shards
    nothing_stays()
