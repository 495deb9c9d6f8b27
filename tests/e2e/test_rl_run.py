"""RL by its real command, at its smallest: Ctrl-C, resume, export, a clip that breaks, two ranks. Ray, vLLM, FSDP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep import readers
from data_prep.build import Options, build
from data_prep.places import Root
from recipe.mer_r1 import steps
from recipe.mer_r1.demo import process

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
START_SECONDS, END_SECONDS = 900, 90
SHARED_MEMORY = Path("/dev/shm")


def children() -> set[psutil.Process]:
    """Living processes below this one. Orphans are, too: see `nothing_stays`."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                found.add(child)
    return found


def rings() -> set[str]:
    """vLLM's shared-memory rings that no process uses; other runs on this machine may have some in use."""
    used = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            used |= {line.split("/dev/shm/")[1].split()[0] for line in maps.read_text().split("\n") if "/psm_" in line}
    return {file.name for file in SHARED_MEMORY.glob("psm_*")} - used


@pytest.fixture
def nothing_stays() -> Iterator[Callable[[], None]]:
    """A check that all processes and rings which came since the test began are gone; it waits some seconds for them."""
    process.adopt_orphans()
    processes, files = children(), rings()

    def check() -> None:
        deadline = time.monotonic() + 20
        while (children() - processes or rings() - files) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert {child.pid: child.cmdline() for child in children() - processes} == {}
        assert rings() - files == set()

    yield check
    for child in children() - processes:  # not into the next test
        child.kill()


class Run:
    """`main_ppo` with two prompts a step, or what the overrides say; its output goes to a file."""

    def __init__(self, run_dir: Path, model: Path, shards: dict[str, Path], *overrides: str):
        run_dir.mkdir(exist_ok=True)
        self.log = run_dir / "log"
        command = [
            *(sys.executable, "-m", "recipe.mer_r1.main_ppo", "preset=tiny", "experiment=baseline"),
            *(f"run_dir={run_dir}", f"preset.model_path={model}"),
            *(f"preset.train_files={shards['rl']}", f"preset.val_files={shards['test']}"),
            *("preset.prompts_per_step=2", "preset.micro_batch_size=4", "trainer.val_before_train=false"),
            *("preset.validate_every=-1", *overrides),
        ]
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"}
            )

    def wait(self, seconds: float) -> int:
        """Exit status; the end of the log is shown when the test fails."""
        try:
            return self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            print(self.text[-6000:])

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")


def shards_of(corpus: Path) -> dict[str, Path]:
    return {split: corpus / "shards" / f"{split}.parquet" for split in ("rl", "test")}


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
