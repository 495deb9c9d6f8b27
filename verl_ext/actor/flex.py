"""FlexAttention for rows that hold several continuations of a prompt: it skips the blocks in which nothing is seen.

All other rows, and the encoders, stay with SDPA. So the plain forwards, with which the first rows of a run are
compared, do not use it. Needs torch and transformers alone. On a CPU it has no backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "shared_prompt_flex"
"""As transformers knows it."""


def use_flex(text_model: torch.nn.Module) -> None:
    """Let a text model of transformers take a :class:`BlockMask` in place of a mask; other masks go to SDPA."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    text_model.set_attn_implementation(NAME)


def sees(parts_PL: torch.Tensor) -> Callable[..., torch.Tensor]:
    """What a query sees, as :attr:`~verl_ext.actor.shared_prompt.Packed.attention_mask` says it, of its `parts`."""

    def seen(row: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        part = parts_PL[row, key]
        return (query >= key) & ((part == 0) | (part == parts_PL[row, query]))

    return seen


def block_mask(parts_PL: torch.Tensor) -> BlockMask:
    """The mask of packed rows, as the blocks in which anything is seen."""
    rows, length = parts_PL.shape
    return create_block_mask(sees(parts_PL), rows, None, length, length, device=parts_PL.device)


@cache
def _compiled(device: str) -> Callable[..., torch.Tensor]:
    # Dynamic: not anew for every length. On a CPU the code that torch 2.13 makes for some dynamic shapes is no C++.
    return torch.compile(flex_attention, dynamic=device != "cpu")


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | BlockMask | None,
    scaling: float | None = None,
    **arguments: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' interface: ``(P, heads, L, width)`` to ``(P, L, heads, width)``."""
    if not isinstance(attention_mask, BlockMask):
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **arguments)
    query, key, value = _alike(query, key, value)
    gqa = key.shape[1] != query.shape[1]
    found = _compiled(query.device.type)(query, key, value, block_mask=attention_mask, scale=scaling, enable_gqa=gqa)
    return found.transpose(1, 2).contiguous(), None


def _alike(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """In one dtype, as autocast makes them for SDPA. Keys and values are repeated where the kernels cannot share them:
    where the heads of a key are no power of two (7 in Qwen2.5-Omni-7B)."""
    ratio = query.shape[1] // key.shape[1]
    if ratio & (ratio - 1):
        key, value = (tensor.repeat_interleave(ratio, dim=1) for tensor in (key, value))
    return query.to(value.dtype), key.to(value.dtype), value
