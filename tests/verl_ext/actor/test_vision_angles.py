"""Rotary angles of the vision tower under FSDP2 with bf16: fp32 with us, bf16 as verl shards."""

import copy

import pytest
import torch
from omni_cases import encoder, messages, model_inputs

pytestmark = pytest.mark.seam


@pytest.fixture
def one_rank(tmp_path):
    """A mesh of this process alone; a vLLM of another test may have left a process group in it."""
    left = torch.distributed.is_initialized()
    if not left:
        torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield torch.distributed.init_device_mesh("cpu", (1,))
    if not left:
        torch.distributed.destroy_process_group()


def sharded(policy, mesh):
    """As verl's ``apply_fsdp2`` shards it."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = copy.deepcopy(policy)
    precision = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=True)
    for module in list(policy.modules()):
        if type(module).__name__ in policy._no_split_modules:
            fully_shard(module, mesh=mesh, mp_policy=precision)
    return fully_shard(policy, mesh=mesh, mp_policy=precision)


def seen(policy, inputs):
    """Angles and hidden states that the vision blocks' attentions get."""
    found = []
    blocks = policy.thinker.visual.blocks
    hooks = [
        block.attn.register_forward_pre_hook(lambda _, args, kwargs: found.append((args, kwargs)), with_kwargs=True)
        for block in blocks
    ]
    with torch.no_grad():
        policy(**inputs)
    for hook in hooks:
        hook.remove()
    assert len(found) == len(blocks) > 0
    angles = [next(kwargs[n] for n in ("rotary_pos_emb", "position_embeddings") if n in kwargs) for _, kwargs in found]
    return angles, [args[0] for args, _ in found]


def test_angles_stay_as_they_are(policy, processor, rows, one_rank):
    from verl_ext.actor.vision_angles import keep_vision_angles

    inputs = model_inputs(processor, encoder(processor)(messages(rows[0])), [5, 6, 7])
    exact, _ = seen(policy, inputs)
    model = sharded(policy, one_rank)
    assert {angles.dtype for angles in seen(model, inputs)[0]} == {torch.bfloat16}, "torch or verl fixed it"
    assert keep_vision_angles(model) == len(exact)
    angles, hidden = seen(model, inputs)
    assert {values.dtype for values in hidden} == {torch.bfloat16}
    for ours, expected in zip(angles, exact, strict=True):
        assert torch.equal(ours, expected)
