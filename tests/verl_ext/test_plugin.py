"""The plugin comes with `import verl`, says what it registered, and stops a run that it does not serve."""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def plugin():
    """The plugin, as verl has loaded it."""
    import verl  # noqa: F401

    return sys.modules["verl_ext.plugin"]


def test_both_entry_points_are_installed():
    assert [point.value for point in entry_points(group="verl.plugins", name="verl_ext")] == ["verl_ext.plugin"]
    found = [point.value for point in entry_points(group="vllm.general_plugins", name="verl_ext")]
    assert found == ["verl_ext.vllm_plugin:register"]


def test_the_report_names_versions_platform_model_and_every_patch(plugin):
    from verl_ext.patches import VERL_PATCHES

    lines = plugin.report()
    assert lines[0].startswith("versions: verl 0.9.1, transformers 5.")
    assert any(line.startswith("platform: cpu") for line in lines)
    assert any("Qwen2.5-Omni" in line for line in lines)
    for patch in VERL_PATCHES:
        assert f"patch: {patch.name} ({patch.module}): {patch.fixes}" in lines


@pytest.mark.parametrize("policy", ["auto", "AUTO", "verl_ext", "other, verl_ext"])
def test_a_loaded_plugin_is_enough(policy, plugin, monkeypatch):
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", policy)
    plugin.require()


@pytest.mark.parametrize("policy", ["none", "other"])
def test_a_run_without_the_plugin_stops_with_advice(policy, plugin, monkeypatch):
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", policy)
    with pytest.raises(SystemExit, match=r"make setup.*VERL_USE_EXTERNAL_PLUGINS"):
        plugin.require()


def test_the_cpu_is_a_platform(plugin):
    from verl.plugin.platform import get_platform

    platform = get_platform()
    assert platform.device_name == "cpu"
    assert platform.communication_backend_name() == "gloo"
    assert platform.current_device() == torch.device("cpu")
    assert torch.zeros(1).to(platform.current_device()).device.type == "cpu"
    assert not platform.is_ipc_supported()
    with platform.nvtx_range("nothing"):
        platform.synchronize()


def test_the_device_module_answers_as_torch_cuda_does(plugin):
    from verl.utils.device import get_torch_device

    device = get_torch_device()
    free, total = device.mem_get_info()
    assert 0 < free <= total
    assert 0 < device.memory_allocated() <= total
    state = device.get_rng_state()
    drawn = torch.rand(3)
    device.set_rng_state(state)
    assert torch.equal(torch.rand(3), drawn)
    assert device.empty_cache() is None
    with pytest.raises(AttributeError):
        _ = device.no_such_function


def test_verl_finds_our_engine_and_fsdp1_is_refused(plugin):
    from verl.workers.engine import EngineRegistry
    from verl.workers.engine.fsdp import transformer_impl  # noqa: F401

    from verl_ext.actor.engine import CPUFSDPEngine

    for backend in ("fsdp", "fsdp2"):
        assert EngineRegistry.get_engine_cls("language_model", backend) is CPUFSDPEngine
    stub = SimpleNamespace(engine_config=SimpleNamespace(strategy="fsdp"))
    with pytest.raises(ValueError, match="strategy to fsdp2"):
        CPUFSDPEngine._build_fsdp_module(stub, torch.nn.Identity())


def test_verl_finds_our_model_class(plugin, processor):
    from verl.utils.model import get_hf_auto_model_class

    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy, register

    register()
    register()
    auto_class = get_hf_auto_model_class(processor.config)
    assert auto_class._model_mapping[type(processor.config)] is Qwen2_5OmniThinkerPolicy


@pytest.mark.parametrize("name", ["thinker.", "talker.", "token2wav."])
def test_a_full_checkpoint_loads_without_its_voice(name, tiny_model, policy, tmp_path):
    """Talker weights beside the Thinker's are left aside without a word; a Thinker weight that is missing is not."""
    from safetensors.torch import load_file, save_file

    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

    state = load_file(tiny_model / "model.safetensors")
    state[f"{name}model.extra.weight"] = torch.zeros(2)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((tiny_model / "config.json").read_text())
    loaded, info = Qwen2_5OmniThinkerPolicy.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert bool(info["unexpected_keys"]) == (name == "thinker.")
    assert torch.equal(loaded.thinker.lm_head.weight, policy.thinker.lm_head.weight)


@pytest.mark.seam
def test_an_unknown_release_stops_import_verl():
    """A plugin's own exceptions are swallowed by verl at DEBUG level; this one must not be."""
    code = (
        "import importlib.metadata as metadata; real = metadata.version\n"
        "metadata.version = lambda name: '0.99.0' if name == 'vllm' else real(name)\n"
        "import verl; print('went on')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert process.returncode == 1
    assert "vllm 0.99.0 is not tested" in process.stderr
    assert "Traceback" not in process.stderr
    assert "went on" not in process.stdout


def test_folders_that_are_no_omni_model_are_left_to_verl(plugin, tiny_model, tmp_path):
    """A tokenizer in a folder of its own (model.tokenizer_path), say."""
    from verl.utils import hf_processor

    with pytest.warns(UserWarning, match="Failed to create processor"):
        assert hf_processor(str(tmp_path)) is None
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text((tiny_model / name).read_text())
    assert hf_processor(str(tmp_path)) is None
