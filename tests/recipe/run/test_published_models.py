"""Qwen2.5-Omni-3B and -7B on torch's meta device: shapes, counts, what FSDP wraps and what LoRA adapts."""

import pytest
from published_sizes import AUDIO_MILLIONS, PUBLISHED, VISION_MILLIONS, config

from recipe.mer_r1.run import launch

pytestmark = pytest.mark.seam


@pytest.fixture(scope="module", params=list(PUBLISHED))
def published(request):
    """(preset, its published numbers, the policy without memory behind it)."""
    import torch

    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

    with torch.device("meta"):
        policy = Qwen2_5OmniThinkerPolicy(config(request.param))
    return request.param, PUBLISHED[request.param], policy


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_counts_are_the_published_ones(published):
    _, numbers, policy = published
    thinker = policy.thinker
    low, high = numbers.thinker
    assert low <= count(policy) / 1e9 <= high
    blocks = count(thinker.model) - count(thinker.get_input_embeddings())
    assert round(blocks / 1e9, 2) == numbers.without_embedding
    assert abs(count(thinker.visual) / 1e6 - VISION_MILLIONS) < 10  # the merger's width is the text model's
    assert abs(count(thinker.audio_tower) / 1e6 - AUDIO_MILLIONS) < 5  # and so is the audio projection's


def test_shapes(published):
    _, numbers, policy = published
    text = numbers.text
    assert all(parameter.is_meta for parameter in policy.parameters())
    layers = policy.thinker.model.layers
    assert len(layers) == text["num_hidden_layers"]
    head = text["hidden_size"] // text["num_attention_heads"]
    assert layers[0].self_attn.k_proj.weight.shape == (head * text["num_key_value_heads"], text["hidden_size"])
    assert layers[0].self_attn.k_proj.bias is not None
    assert policy.thinker.lm_head.weight.shape == (text["vocab_size"], text["hidden_size"])
    assert policy.thinker.visual.merger.mlp[2].out_features == text["hidden_size"]
    assert policy.thinker.audio_tower.proj.out_features == text["hidden_size"]


def test_fsdp_wraps_the_blocks_of_text_and_towers(published):
    from verl.utils.fsdp_utils import get_fsdp_wrap_policy

    _, numbers, policy = published
    wraps = get_fsdp_wrap_policy(policy)
    names = [name for name, module in policy.named_modules() if wraps(module=module, recurse=False, nonwrapped_numel=0)]
    parts = ("model", "visual", "audio_tower")
    by_part = {part: sum(name.startswith(f"thinker.{part}.") for name in names) for part in parts}
    assert by_part == {"model": numbers.text["num_hidden_layers"], "visual": 32, "audio_tower": 32}
    assert len(names) == sum(by_part.values())


def test_lora_adapts_every_projection_of_the_text_model_and_nothing_else(published):
    from peft import LoraConfig, get_peft_model

    preset, numbers, policy = published
    model = launch.compose("ppo", [f"preset={preset}", "cluster=h100_1x1_lora"]).actor_rollout_ref.model
    rank = model.lora_rank
    lora = LoraConfig(r=rank, lora_alpha=model.lora_alpha, target_modules=model.target_modules, task_type="CAUSAL_LM")
    adapted = get_peft_model(policy, lora)
    try:
        trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
        assert all(".thinker.model.layers." in name for name in trained)
        assert len(trained) == 2 * 7 * numbers.text["num_hidden_layers"]  # A and B of q, k, v, o, gate, up, down
    finally:
        adapted.unload()
