"""vLLM's OpenAI server on an exported folder: one clip, picture and sound as data URLs, and the prompt it makes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from export_cases import complete_omni, run_folder

from verl_ext.platform import ports

pytestmark = pytest.mark.seam
ROOT = Path(__file__).parents[2]
START_SECONDS, END_SECONDS = 240, 60


@pytest.fixture
def server(tiny_model, tmp_path):
    """The URL of a server of a checkpoint put into a complete Omni; ended by Ctrl-C, and no process of it is left.

    vLLM loads a Thinker's folder alone in the tests of evaluation and of the export's own check.
    """
    from safetensors.torch import load_file

    from recipe.mer_r1.export.__main__ import main

    run, out = run_folder(tmp_path / "run", tiny_model, load_file(tiny_model / "model.safetensors")), tmp_path / "out"
    assert main([str(run), "--out", str(out), "--full", str(complete_omni(tiny_model, tmp_path / "omni"))]) == 0
    port = ports.free_port()
    limits = json.dumps({"video": 1, "audio": 1, "image": 0})
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(out), "--dtype", "float32"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "mer", "--enforce-eager"]
    command += ["--max-model-len", "512", "--max-num-seqs", "4", "--limit-mm-per-prompt", limits]
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        started = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(2)
        try:
            process.wait(END_SECONDS)
        finally:
            for left in [*psutil.wait_procs(started, 10)[1], *([process] if process.poll() is None else [])]:
                left.kill()
            process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False


def test_a_clip_is_answered_from_our_own_prompt(server, tiny_model, micro_corpus, monkeypatch):
    """The server's frames, sound and template make the prompt that training had for the same clip."""
    from omegaconf import OmegaConf
    from openai import OpenAI
    from transformers import AutoConfig, AutoProcessor

    from recipe.mer_r1.eval.generate import load_preset
    from verl_ext.data.dataset import build_messages, load_shard
    from verl_ext.data.encode import MediaConfig, PromptEncoder
    from verl_ext.models.processor import bind

    monkeypatch.syspath_prepend(str(ROOT / "examples" / "serving"))
    import ask

    row = load_shard(micro_corpus / "shards" / "test.parquet").to_list()[0]
    arguments = ask.request(Path(row["videos"][0]), Path(row["audios"][0]), row["extra_info"]["subtitle"], "tiny")
    arguments["extra_body"]["return_token_ids"] = True
    client = OpenAI(base_url=server, api_key="none", max_retries=0)
    reply = client.chat.completions.create(model="mer", max_tokens=8, temperature=0, **arguments)
    assert reply.choices[0].message.content
    assert reply.usage.completion_tokens == 8
    processor = bind(AutoProcessor.from_pretrained(tiny_model), AutoConfig.from_pretrained(tiny_model))
    media = MediaConfig.from_config(OmegaConf.to_container(load_preset("tiny", []).media))
    assert reply.prompt_token_ids == PromptEncoder(processor, media, cache_size=0)(build_messages(row)).prompt_ids
