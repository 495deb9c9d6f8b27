"""Every patch is still needed, and works: the libraries as released beside the libraries with the plugin.

A test of the first kind fails once a release fixes its own problem; the patch can then go.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omni_cases import encoder, messages

from verl_ext import patches, vllm_patches
from verl_ext.platform import ports

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROBED = {
    "gloo process group",
    "omni processor",
    "omni rollout",
    "omni boundary tokens",
    "replay buffer poll",
    "file logger appends",
    "log-probs in chunks",
    "positions of equal lengths",
    "saved weights are copies",
    "separate-async log",
    "weight socket",
    "workers' port",
    "engine's port",
    "vllm keeps weights",
    "seeds in mixed batches",
}

VLLM_PATCHES = vllm_patches.VLLM_PATCHES + vllm_patches.VLLM_CPU_PATCHES


def probe(script, *arguments, **environment):
    """The last line of a script's output, read as JSON."""
    process = subprocess.run(
        [sys.executable, str(HERE / script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return json.loads(process.stdout.splitlines()[-1])


def test_every_patch_is_tested_here():
    names = [patch.name for patch in (*patches.VERL_PATCHES, *VLLM_PATCHES)]
    assert sorted(names) == sorted(PROBED)


def test_every_patch_names_the_release_that_it_mends():
    assert all("verl 0.9.1" in patch.fixes for patch in patches.VERL_PATCHES)
    assert all("vLLM 0.24.0 and 0.28.0" in patch.fixes for patch in VLLM_PATCHES)


# -- verl --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def released(tiny_model, tmp_path_factory):
    """verl without plugins."""
    found = probe("verl_probe.py", tiny_model, tmp_path_factory.mktemp("released"), VERL_USE_EXTERNAL_PLUGINS="none")
    assert not found["patched"]
    return found


@pytest.fixture(scope="module")
def patched(tiny_model, tmp_path_factory):
    """verl as ``import verl`` gives it, with the plugin."""
    found = probe("verl_probe.py", tiny_model, tmp_path_factory.mktemp("patched"), VERL_USE_EXTERNAL_PLUGINS="auto")
    assert found["patched"]
    return found


@pytest.mark.seam
def test_gloo_process_group(released, patched):
    assert not released["gloo process group"]["started"]
    assert "cpu:gloo,cpu:gloo" in released["gloo process group"]["problem"]
    assert patched["gloo process group"] == {"problem": None, "started": True}


@pytest.mark.seam
def test_workers_import_no_vllm(released, patched):
    """A verl that passes the first line needs no entry in `sys.modules` by verl_ext/plugin.py."""
    assert released["imports vllm"]["vllm"] is True
    assert patched["imports vllm"]["vllm"] is False
    for found, reason in (
        (released, "the torch.npu module is not"),
        (patched, "import of verl.checkpoint_engine.hccl"),
    ):
        asked = found["imports vllm"]["asked"]
        assert asked.startswith("ValueError: Checkpoint engine hccl not registered")
        assert f"hccl_checkpoint_engine: {reason}" in asked.replace("HCCLCheckpointEngine is unavailable because ", "")


@pytest.mark.seam
def test_omni_processor(released, patched):
    assert released["omni processor"]["type"] == "NoneType"
    assert released["omni processor"]["warned"]
    assert patched["omni processor"] == {
        "type": "Qwen2_5OmniProcessor",
        "positions": True,
        "warned": False,
        "exported": True,
    }


@pytest.mark.seam
def test_omni_rollout(released, patched):
    assert released["omni rollout"]["collapsed"] is False
    assert released["omni rollout"]["banned"] == 2
    assert "max_position_embeddings not found" in released["omni rollout"]["max_positions"]
    assert patched["omni rollout"] == {"collapsed": True, "banned": 7, "max_positions": 32768}


@pytest.mark.seam
def test_omni_boundary_tokens(released, patched):
    assert released["omni boundary tokens"] == "vldefault"
    assert patched["omni boundary tokens"] == "qwen25vl"


@pytest.mark.seam
def test_replay_buffer_poll(released, patched):
    assert released["replay buffer poll"] == {"default": 2.0, "asked 0.05": 2.0}
    assert patched["replay buffer poll"] == {"default": 2.0, "asked 0.05": 0.05}


@pytest.mark.seam
def test_file_logger_appends(released, patched):
    assert released["file logger appends"] == [[1], [2]]
    assert patched["file logger appends"] == [[1], [1, 2]]


@pytest.mark.seam
def test_log_probs_in_chunks(released, patched):
    before, after = released["log-probs in chunks"], patched["log-probs in chunks"]
    assert [before[dtype]["calls"] for dtype in ("float32", "bfloat16")] == [1500, 1500]
    assert [after[dtype]["calls"] for dtype in ("float32", "bfloat16")] == [1, 1]
    assert before["bfloat16"]["error"] > 1e-3, "verl normalises bf16 in full precision: that half can go"
    assert max(after[dtype]["error"] for dtype in after) <= 2e-6
    assert after["float32"]["gradient_error"] <= 1e-6
    assert after["bfloat16"]["gradient_error"] <= 2**-8  # the gradient itself is bf16


@pytest.mark.seam
def test_positions_of_equal_lengths(released, patched):
    """Sequences of 8 tokens and two samples: verl's offsets, of 4 channels a sample, then end where the tokens do."""
    before, after = released["positions of equal lengths"], patched["positions of equal lengths"]
    assert before["unequal"] is True
    assert before["equal"] is not True
    assert before["of 8"] is not True
    assert after == {"unequal": True, "equal": True, "of 8": True}


@pytest.mark.seam
def test_saved_weights_are_copies(released, patched):
    """Without the patch all but the first update of a separate-async step would take log-probs of moved weights."""
    assert released["saved weights are copies"] == {"kept": False, "restored": False}
    assert patched["saved weights are copies"] == {"kept": True, "restored": True}


@pytest.mark.seam
def test_separate_async_log(released, patched):
    assert "unexpected keyword argument 'flush'" in released["separate-async log"]
    assert patched["separate-async log"] is None


@pytest.mark.seam
def test_weight_socket(released, patched):
    """The receiver's name is that of `_get_zmq_handle`, with the id that the server hands on."""
    one, other = released["weight socket"]
    assert one == other == "ipc:///tmp/rl-colocate-zmq-01000000-replica-0-rank-0.sock"
    assert patched["weight socket"] == [
        f"ipc:///tmp/rl-colocate-zmq-127.0.0.1_{port}_01000000-replica-0-rank-0.sock" for port in (6379, 6380)
    ]


def kernels_own() -> range:
    """The ports that the kernel gives out by itself."""
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    return range(first, last + 1)


@pytest.mark.seam
def test_workers_port(released, patched):
    assert all(port in kernels_own() for port in released["workers' port"])
    assert all(ports.FIRST <= port < ports.END for port in patched["workers' port"])
    assert len(set(patched["workers' port"])) == 2


# -- vLLM --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cases(processor, rows, tmp_path_factory):
    """A file of prompts as transformers expands them, with transformers' positions."""
    from verl_ext.models.processor import collapse_media
    from verl_ext.models.rope import position_ids

    shapes = {
        "separate": (False, {}),
        "interleaved": (True, {}),
        "interleaved at 4 fps": (True, {"fps": 4.0, "max_frames": 8}),
    }
    found = {}
    for name, (audio_in_video, media) in shapes.items():
        encoded = encoder(processor, audio_in_video, **media)(messages(rows[0], audio_in_video))
        ids = encoded.prompt_ids
        found[name] = {
            "prompt_ids": ids,
            "collapsed": collapse_media(ids, processor),
            "video": encoded.videos[0],
            "audio": encoded.audios[0],
            "kwargs": encoded.processor_kwargs,
            "positions": position_ids(processor.rope, torch.tensor(ids), encoded.inputs)[1:],
        }
    path = tmp_path_factory.mktemp("cases") / "cases.pt"
    torch.save(found, path)
    return path


@pytest.fixture(scope="module")
def released_vllm(tiny_model, cases):
    """vLLM without plugins."""
    found = probe("vllm_probe.py", tiny_model, cases, VLLM_PLUGINS="none")
    assert found["architecture"].startswith("vllm.")
    return found


@pytest.fixture(scope="module")
def patched_vllm(tiny_model, cases):
    """vLLM with the plugin."""
    found = probe("vllm_probe.py", tiny_model, cases)
    assert found["architecture"] == "verl_ext.rollout.vllm_model.OmniThinker"
    return found


@pytest.mark.seam
def test_engines_port(released_vllm, patched_vllm):
    released, patched = released_vllm["engine's ports"], patched_vllm["engine's ports"]
    assert all(port in kernels_own() for port in released["default"])
    assert all(ports.FIRST <= port < ports.END for port in patched["default"])
    assert len(set(patched["default"])) == 2
    assert released["asked"] == patched["asked"] == 15000


@pytest.mark.seam
def test_seeds_in_mixed_batches(released_vllm, patched_vllm):
    """The token of a request with a seed, beside one without, in three engines that differ in the global seed."""
    assert len(set(released_vllm["seeded beside unseeded"])) > 1
    assert len(set(patched_vllm["seeded beside unseeded"])) == 1
    assert released_vllm["both seeded"] == patched_vllm["both seeded"]  # the patch changes no other batch


@pytest.mark.seam
def test_vllm_keeps_weights(released_vllm, patched_vllm):
    if not released_vllm["packs_on_this_machine"]:
        pytest.skip("vLLM packs weights on a CPU with oneDNN alone, and this is none")
    assert released_vllm["weight_elements"] == 0
    assert patched_vllm["weight_elements"] == 64 * 128


@pytest.mark.seam
def test_vllm_positions_of_audio_in_video(released_vllm, patched_vllm):
    """A vLLM whose positions are right needs no `get_mrope_input_positions` in verl_ext/rollout/vllm_model.py."""
    assert released_vllm["prompts"]["separate"]["shifts"] == [0]
    assert released_vllm["prompts"]["interleaved"]["same_ids"]
    assert -1 in released_vllm["prompts"]["interleaved"]["shifts"]
    for prompt in patched_vllm["prompts"].values():
        assert prompt["shifts"] == [0]
        assert prompt["delta_off"] == 0


@pytest.mark.seam
def test_vllm_order_of_audio_in_video(released_vllm, patched_vllm):
    """A vLLM that weaves at the video's own rate needs no `_get_prompt_updates` in verl_ext/rollout/vllm_model.py."""
    assert released_vllm["prompts"]["interleaved"]["same_ids"]
    assert not released_vllm["prompts"]["interleaved at 4 fps"]["same_ids"]
    assert released_vllm["prompts"]["interleaved at 4 fps"]["same_tokens_counted"]
    assert all(prompt["same_ids"] for prompt in patched_vllm["prompts"].values())


@pytest.mark.seam
def test_vllm_places_audio_in_video_run_by_run(released_vllm, patched_vllm):
    """`embed_input_ids` in verl_ext/rollout/vllm_model.py is for a vLLM that sees a whole batch as one run."""
    assert released_vllm["sees_each_run"] is not patched_vllm["takes_one_run"]


@pytest.mark.seam
def test_vllm_processor_cache_loses_interleaved_audio(released_vllm):
    """Why `mm_processor_cache_gb` is 0. A vLLM that passes needs that no longer."""
    assert released_vllm["cached_audio"]["separate"] == "fine"
    messages = ("Video doesn't have audio track", "Failed to apply Qwen2_5OmniProcessor")  # of vLLM 0.28.0, 0.24.0
    assert any(message in released_vllm["cached_audio"]["interleaved"] for message in messages)
