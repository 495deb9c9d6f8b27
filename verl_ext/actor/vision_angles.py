"""Rotary angles of the vision tower stay fp32 under FSDP2's mixed precision, as they are in vLLM.

What it fixes: verl 0.9.1 shards with ``cast_forward_inputs=True``, and a vision block gets its rotary angles as an
input. In bf16 an angle of 30 rad is up to .06 rad off. (The text layers get cosines and sines, which transformers
itself casts to the dtype of the layer.)
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.distributed.fsdp import FSDPModule
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniVisionBlock


def keep_vision_angles(module: torch.nn.Module) -> int:
    """Have the sharded vision blocks take their inputs as they come; returns the number of blocks.

    Their other input, the hidden states, has the dtype of the weights before it already.
    """
    blocks = [b for b in module.modules() if isinstance(b, Qwen2_5OmniVisionBlock) and isinstance(b, FSDPModule)]
    for block in blocks:
        state = block._get_fsdp_state()  # torch has no public way to change a policy
        state._mp_policy = replace(state._mp_policy, cast_forward_inputs=False)
    return len(blocks)
