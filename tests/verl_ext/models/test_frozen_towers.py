"""Towers that a run freezes keep their weights, on two ranks too; what is not frozen is trained."""

import json

import pytest
import torch
from omni_cases import sample
from ranks import run_ranks
from safetensors.torch import load_file

pytestmark = pytest.mark.seam

VISION, AUDIO = "thinker.visual.", "thinker.audio_tower."


def loss_of(policy, example):
    inputs = {name: value for name, value in example["multi_modal_inputs"].items() if name != "video_second_per_grid"}
    logits = policy(
        input_ids=example["input_ids"][None],
        position_ids=example["position_ids"][1:, None],
        attention_mask=torch.ones_like(example["input_ids"])[None],
        **inputs,
    ).logits
    return torch.nn.functional.cross_entropy(logits[0, :-1], example["input_ids"][1:])


@pytest.mark.parametrize("towers", [["vision"], ["audio"], ["vision", "audio"]])
def test_frozen_parameters_get_no_gradient(towers, tiny_model, processor, rows):
    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

    policy = Qwen2_5OmniThinkerPolicy.from_pretrained(tiny_model, dtype=torch.float32)
    policy.freeze(towers)
    loss_of(policy, sample(processor, "separate", rows[0], 0)).backward()
    prefixes = {"vision": VISION, "audio": AUDIO, "text": "thinker.model."}
    for part, prefix in prefixes.items():
        gradients = [p.grad for name, p in policy.named_parameters() if name.startswith(prefix)]
        assert all(gradient is None for gradient in gradients) == (part in towers), part


def test_an_unknown_tower_is_named(policy):
    with pytest.raises(ValueError, match="no tower 'talker' to freeze; the towers are vision, audio"):
        policy.freeze(["talker"])


def test_the_engine_trains_all_but_what_the_config_freezes(tiny_model, processor, rows, tmp_path):
    """Two ranks, of which one has no clips in the second batch; the export says nothing of it."""
    from verl_ext.models.export import export, merge_shards

    kinds = {"media": ["separate", "interleaved", "separate", "text"], "text": ["separate", "video", "text", "text"]}
    batches = {name: [sample(processor, kind, rows[i], i) for i, kind in enumerate(row)] for name, row in kinds.items()}
    torch.save(batches, tmp_path / "batches.pt")
    settings = json.dumps({"override": {"frozen_towers": ["vision"]}})
    run_ranks("fsdp_rank.py", 2, (tiny_model, tmp_path / "batches.pt", tmp_path, settings))
    before, after = load_file(tiny_model / "model.safetensors"), merge_shards(tmp_path / "actor")
    assert set(before) == set(after)
    moved = {name for name in before if not torch.equal(before[name], after[name].float())}
    assert not {name for name in moved if name.startswith(VISION)}
    assert any(name.startswith(AUDIO) for name in moved)
    assert any(name.startswith("thinker.model.layers.") for name in moved)
    config = json.loads((export(tmp_path / "actor", tmp_path / "model") / "config.json").read_text())
    assert "frozen_towers" not in config
