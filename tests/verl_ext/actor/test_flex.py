"""FlexAttention's mask and log-probs of packed rows against SDPA's. On a CPU it has no backward pass."""

import copy

import pytest
import torch

from verl_ext.actor.shared_prompt import Sample, find_groups, pack

pytestmark = pytest.mark.seam


def sample(seed, prompt, size, branch=None):
    draw = torch.Generator().manual_seed(seed)
    ids = torch.cat([torch.arange(prompt) + 100, torch.randint(100, 500, (size,), generator=draw)])
    return Sample(ids, torch.arange(len(ids)), prompt, branch and torch.randint(100, 500, (branch,), generator=draw))


def packed_of(*samples):
    return pack(samples, find_groups(samples))


THREE = (sample(0, 150, 20, 5), sample(1, 31, 9), sample(2, 150, 40))  # two rows, more than one block, padding


def test_the_mask_is_that_of_sdpa():
    from torch.nn.attention.flex_attention import create_mask

    from verl_ext.actor.flex import block_mask, sees

    packed = packed_of(*THREE)
    (rows, length), device = packed.parts.shape, packed.parts.device
    assert torch.equal(create_mask(sees(packed.parts), rows, 1, length, length, device=device), packed.attention_mask)
    assert block_mask(packed.parts).shape == (2, 1, length, length)


def test_log_probs_are_those_of_sdpa_and_plain_rows_stay_with_sdpa(policy, monkeypatch):
    from verl_ext.actor import flex

    other = copy.deepcopy(policy)
    flex.use_flex(other.thinker.model)
    calls, compiled = [], flex._compiled("cpu")
    monkeypatch.setattr(
        flex, "_compiled", lambda device: lambda *args, **kwargs: calls.append(device) or compiled(*args, **kwargs)
    )
    packed = packed_of(*THREE)
    real = packed.parts >= 0

    def log_probs(model, mask):
        positions = packed.position_ids.expand(4, -1, -1)
        with torch.no_grad():
            logits = model(input_ids=packed.input_ids, attention_mask=mask, position_ids=positions).logits
        return logits[real].log_softmax(-1)

    expected = log_probs(policy, packed.attention_mask)
    gap = (log_probs(other, flex.block_mask(packed.parts)) - expected).abs().max()
    print(f"max |Δ log-prob| {gap:.1e}")
    assert gap <= 1e-4
    assert calls == ["cpu"] * len(other.thinker.model.layers)
    causal = torch.ones_like(packed.attention_mask).tril()
    assert (log_probs(policy, causal) - expected).abs().max() > 1e-2  # a wrong mask is seen
    assert torch.equal(log_probs(other, packed.attention_mask), expected)
    assert calls == ["cpu"] * len(other.thinker.model.layers)
    assert policy.thinker.model.config._attn_implementation == "sdpa"
    assert other.thinker.visual.config._attn_implementation == "sdpa"
    assert flex.NAME not in other.config.to_json_string(use_diff=False)


@pytest.mark.parametrize("heads", [(6, 2), (8, 2), (3, 3)])
def test_heads_that_share_keys_and_mixed_precision(heads, monkeypatch):
    """Against SDPA under the dense mask, not compiled; also keys in fp32 beside values in bf16."""
    from torch.nn.attention.flex_attention import flex_attention

    from verl_ext.actor import flex

    monkeypatch.setattr(flex, "_compiled", lambda device: flex_attention)
    packed, draw = packed_of(*THREE), torch.Generator().manual_seed(0)
    rows, length = packed.parts.shape
    query, key, value = (torch.randn(rows, count, length, 16, generator=draw) for count in (heads[0], *heads[1:] * 2))
    found, _ = flex._attention(None, query, key, value, flex.block_mask(packed.parts), scaling=0.3)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, packed.attention_mask, scale=0.3, enable_gqa=True
    )
    torch.testing.assert_close(found, expected.transpose(1, 2), atol=1e-5, rtol=1e-5)
    mixed, _ = flex._attention(None, query, key, value.bfloat16(), flex.block_mask(packed.parts), scaling=0.3)
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.float(), expected.transpose(1, 2), atol=5e-2, rtol=5e-2)


def test_the_engine_uses_it_where_the_run_says_so(policy):
    from types import SimpleNamespace

    from torch.nn.attention.flex_attention import BlockMask

    from verl_ext.actor import flex
    from verl_ext.actor.engine import SetLogProbsMixin
    from verl_ext.actor.micro_batch import PackedBatch

    class Built:
        def _build_module(self):
            return copy.deepcopy(policy)

    class Engine(SetLogProbsMixin, Built):
        def __init__(self, **config):
            self.model_config = SimpleNamespace(hf_config=SimpleNamespace(**config))

    def attention_of(engine):
        return engine._build_module().thinker.model.config._attn_implementation, engine._flex

    assert attention_of(Engine()) == ("sdpa", False)
    assert attention_of(Engine(shared_prompt_attention="sdpa")) == ("sdpa", False)
    assert attention_of(Engine(shared_prompt_attention="flex")) == (flex.NAME, True)
    with pytest.raises(ValueError, match="shared_prompt_attention='eager': it is sdpa or flex"):
        Engine(shared_prompt_attention="eager")._build_module()

    batch = PackedBatch.__new__(PackedBatch)
    batch.samples, batch.places, batch.device, batch._media = THREE, None, "cpu", []
    batch.packed = packed_of(*THREE)
    assert isinstance(batch.inputs(flex=True)["attention_mask"], BlockMask)
    assert batch.inputs()["attention_mask"].shape == (2, 1, *batch.packed.parts.shape[1:] * 2)
    batch.packed, batch.samples = packed_of(sample(0, 9, 2)), (sample(0, 9, 2),)
    assert batch.inputs(flex=True)["attention_mask"].shape == (1, 11)  # an ordinary row
