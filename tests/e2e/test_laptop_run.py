"""The main job, small, as a user runs it: corpus, tiny Thinker, SFT, RL, resume, export. Real Ray, vLLM, FSDP, mp4."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recipe.mer_r1 import steps

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
TIMEOUT = 900


def run(*command: str, timeout: int = TIMEOUT) -> subprocess.CompletedProcess[str]:
    """A command of the README in this environment; its output is shown when a test fails."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, text=True, capture_output=True, timeout=timeout, check=False
    )
    print(done.stdout[-4000:], done.stderr[-4000:])
    return done


def left_running(folder: Path) -> list[str]:
    """Ray's and vLLM's processes that started after ``folder`` was made."""
    names = ("ray::", "VLLM::", "raylet", "gcs_server")
    found = []
    for process in psutil.process_iter(["cmdline", "create_time"]):
        command = " ".join(process.info["cmdline"] or [])
        if any(name in command for name in names) and process.info["create_time"] > folder.stat().st_ctime:
            found.append(command[:100])
    return found


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, its shards and a tiny Thinker that has seen a few SFT steps."""
    folder = tmp_path_factory.mktemp("laptop")
    corpus, init = folder / "corpus", folder / "init"
    done = run("data_prep", "micro", "--out", str(corpus), "--clips", "24", "--test-clips", "6", "--sft", "12")
    assert done.returncode == 0
    shard = corpus / "shards" / "sft.parquet"
    assert run("verl_ext.omni.tiny", "--shards", str(shard), "--out", str(init)).returncode == 0
    sft = run(
        "recipe.mer_r1.main_sft",
        f"run_dir={folder / 'sft'}",
        f"preset.sft.model_path={init}",
        f"preset.sft.train_files={shard}",
        "preset.sft.steps=6",
    )
    assert sft.returncode == 0
    losses = [data["train/loss"] for data in steps.read(folder / "sft" / "metrics.jsonl").values()]
    assert losses[-1] < losses[0]
    return folder


def ppo(work: Path, run_dir: str, *overrides: str) -> list[str]:
    return [
        "recipe.mer_r1.main_ppo",
        "preset=tiny",
        "experiment=baseline",
        f"run_dir={work / run_dir}",
        f"preset.model_path={work / 'sft' / 'model'}",
        f"preset.train_files={work / 'corpus/shards/rl.parquet'}",
        f"preset.val_files={work / 'corpus/shards/test.parquet'}",
        "preset.prompts_per_step=2",
        "preset.val_clips=4",
        *overrides,
    ]


def test_rl_trains_resumes_and_exports(work: Path) -> None:
    first = run(*ppo(work, "rl", "preset.steps=2", "preset.save_every=1"))
    assert first.returncode == 0
    metrics = steps.read(work / "rl" / "metrics.jsonl")
    assert [step for step in metrics if step] == [1, 2]
    for step in (1, 2):
        assert metrics[step]["rollout_actor_log_prob_diff/max"] < 1e-5
        assert 0 <= metrics[step]["reward/format"] <= 1
    # Validation asks for both forms, before the first step and after the last.
    for form in ("slow", "fast"):
        assert f"val-aux/mer_micro/{form}/f1/mean@1" in metrics[0]
    assert list((work / "rl" / "tensorboard").glob("events*"))

    again = run(*ppo(work, "rl", "preset.steps=3", "preset.save_every=1"))
    assert again.returncode == 0
    assert "Resuming from" in again.stdout
    assert [step for step in steps.read(work / "rl" / "metrics.jsonl") if step] == [1, 2, 3]
    assert left_running(work) == []

    loads = (
        "from verl_ext.omni.model import Qwen2_5OmniThinkerPolicy as M;"
        f"m, info = M.from_pretrained({str(work / 'rl' / 'model')!r}, output_loading_info=True);"
        "assert not info['missing_keys'] and not info['unexpected_keys'], info"
    )
    assert subprocess.run([sys.executable, "-c", loads], cwd=ROOT, check=False).returncode == 0
    answers = work / "answers"
    done = run(
        *("recipe.mer_r1.main_eval", "generate", "--model", str(work / "rl" / "model"), "--limit", "4"),
        *("--shard", str(work / "corpus/shards/test.parquet"), "--out", str(answers)),
    )
    assert done.returncode == 0  # vLLM loads the exported model, too
    assert set(json.loads((answers / "scores.json").read_text())["modes"]) == {"slow", "fast"}
    before = json.loads((work / "sft" / "model" / "config.json").read_text())
    after = json.loads((work / "rl" / "model" / "config.json").read_text())
    assert after["architectures"] == before["architectures"] == ["Qwen2_5OmniModel"]


def test_ctrl_c_leaves_no_process(work: Path) -> None:
    log = work / "interrupted.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *ppo(work, "interrupted", "preset.steps=500", "trainer.val_before_train=false")],
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        deadline = time.time() + TIMEOUT
        while "step:1 " not in log.read_text() and process.poll() is None and time.time() < deadline:
            time.sleep(1)
        assert process.poll() is None, log.read_text()[-4000:]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert "interrupted" in log.read_text()
    time.sleep(2)
    assert left_running(work) == []


def test_a_broken_clip_stops_the_run_and_leaves_no_process(work: Path) -> None:
    rows = pq.read_table(work / "corpus" / "shards" / "rl.parquet").to_pylist()
    broken = work / "broken.mp4"
    broken.write_bytes(Path(rows[1]["videos"][0]).read_bytes()[:1500])
    rows[1]["videos"] = [str(broken)]  # a row that the first checks do not decode
    pq.write_table(pa.Table.from_pylist(rows), work / "broken.parquet")
    done = run(
        *ppo(work, "broken", "preset.steps=1", "preset.responses_per_prompt=2", "trainer.val_before_train=false"),
        f"preset.prompts_per_step={len(rows)}",
        f"preset.train_files={work / 'broken.parquet'}",
    )
    assert done.returncode not in (0, None)
    assert "2 of 24 responses are missing" in done.stderr + done.stdout
    assert str(broken) in done.stderr + done.stdout
    assert left_running(work) == []


def test_two_ranks_and_audio_inside_video(work: Path) -> None:
    """Two FSDP ranks, two vLLM replicas, and the sound interleaved with the frames: log-probs still agree."""
    shards = {}
    for split in ("rl", "test"):
        rows = pq.read_table(work / "corpus" / "shards" / f"{split}.parquet").to_pylist()
        for row in rows:
            row["audios"] = []
            row["prompt"][0]["content"] = row["prompt"][0]["content"].replace("<audio>", "")
        shards[split] = work / f"{split}_av.parquet"
        table = pa.Table.from_pylist(rows)
        pq.write_table(table.set_column(*audio_column(table)), shards[split])
    done = run(
        *ppo(work, "two", "preset.steps=1", "preset.ranks_per_node=2", "preset.media.use_audio_in_video=true"),
        f"preset.train_files={shards['rl']}",
        f"preset.val_files={shards['test']}",
        "trainer.val_before_train=false",
    )
    assert done.returncode == 0
    assert steps.read(work / "two" / "metrics.jsonl")[1]["rollout_actor_log_prob_diff/max"] < 1e-5
    assert (work / "two" / "model" / "model.safetensors").is_file()  # merged from two ranks' shards
    assert left_running(work) == []


def audio_column(table: pa.Table) -> tuple[int, str, pa.Array]:
    """`audios` as lists of strings also where every list is empty."""
    index = table.column_names.index("audios")
    return index, "audios", pa.array(table.column("audios").to_pylist(), pa.list_(pa.string()))
