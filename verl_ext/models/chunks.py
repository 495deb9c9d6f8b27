"""Attention of the encoders: all windows and chunks of equal length in one call, instead of a call for each.

transformers gives an attention that takes several sequences at a time (its flash attentions) the whole packed sequence
and its borders. Any other attention is called once for each chunk: a clip of 8 s has thousands of calls in a forward.
The attention here takes the packed sequence, and calls SDPA once for each *length*.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import (
    Qwen2_5OmniAudioAttention,
    Qwen2_5OmniVisionAttention,
)

NAME = "verl_ext_flash_sdpa_by_length"
"""transformers hands packed sequences to attentions with "flash" in their name."""


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None = None,
    *,
    cu_seq_lens_q: torch.Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Each token attends to all tokens of its chunk.

    Args:
        module: not used; transformers passes it.
        query, key, value: ``(1, heads, N, d)``.
        attention_mask: None.
        cu_seq_lens_q: ``(chunks + 1,)``, where chunks begin, and N.
        scaling: of the scores; None: ``d ** -0.5``.
        dropout: of the attention's weights.

    Returns:
        ``(1, N, heads, d)``, and None for the weights.
    """
    lengths = cu_seq_lens_q.diff()
    states = torch.stack([query[0], key[0], value[0]]).transpose(1, 2)  # (3, N, heads, d)

    def of_length(states: torch.Tensor, length: int) -> torch.Tensor:
        """``(n, heads, d)`` of chunks of one length, ``states (3, n, heads, d)``."""
        q, k, v = states.unflatten(1, (-1, length)).transpose(2, 3)
        return scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling).transpose(1, 2).flatten(0, 1)

    found = lengths.unique().tolist()
    if len(found) == 1:
        return of_length(states, found[0])[None], None
    per_token = lengths.repeat_interleave(lengths)
    places = [(per_token == length).nonzero()[:, 0] for length in found]
    parts = [of_length(states[:, place], length) for length, place in zip(found, places, strict=True)]
    return torch.cat(parts)[torch.cat(places).argsort()][None], None


class _Config:
    """An encoder's configuration, which names :func:`attend` where the encoder's attention is sdpa."""

    def __init__(self, config: Any):
        self._config = config

    @property
    def _attn_implementation(self) -> str:
        chosen = self._config._attn_implementation
        return NAME if chosen == "sdpa" else chosen

    def __getattr__(self, name: str) -> Any:
        if name == "_config":  # while it is copied or unpickled
            raise AttributeError(name)
        return getattr(self._config, name)


def attend_by_length(model: torch.nn.Module) -> int:
    """Have the audio and vision encoders of a model use :func:`attend`; returns the number of layers.

    Only where their attention is sdpa, now or later; a second call changes nothing.
    """
    AttentionInterface.register(NAME, attend)
    layers = [m for m in model.modules() if isinstance(m, Qwen2_5OmniAudioAttention | Qwen2_5OmniVisionAttention)]
    for layer in layers:
        if not isinstance(layer.config, _Config):
            layer.config = _Config(layer.config)
    return len(layers)
