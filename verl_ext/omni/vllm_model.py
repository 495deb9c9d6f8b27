"""vLLM's Qwen2.5-Omni Thinker with transformers' positions.

What it mends: vLLM 0.28.0 starts the interleaved positions of audio in video at ``<|audio_bos|>``, one token early
(``get_mrope_input_positions``); log-probs are then off by 1e-3 to 5e-3. Here both
sides ask :class:`verl_ext.omni.rope.OmniRope`.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.models.qwen2_5_omni_thinker import (
    Qwen2_5OmniThinkerDummyInputsBuilder,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2_5OmniThinkerMultiModalProcessor,
    Qwen2_5OmniThinkerProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from verl_ext.omni.rope import OmniRope


def _column(features: list[Any], modality: str, key: str) -> list[torch.Tensor]:
    """The values of ``key`` of the features of one modality, in prompt order."""
    values = []
    for feature in features:
        element = feature.data.get(key) if feature.modality == modality and feature.data is not None else None
        if element is not None and element.data is not None:
            values.append(torch.as_tensor(element.data))
    return values


@MULTIMODAL_REGISTRY.register_processor(
    Qwen2_5OmniThinkerMultiModalProcessor,
    info=Qwen2_5OmniThinkerProcessingInfo,
    dummy_inputs=Qwen2_5OmniThinkerDummyInputsBuilder,
)
class OmniThinker(Qwen2_5OmniThinkerForConditionalGeneration):
    """The same model; positions come from transformers."""

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: list[Any]) -> tuple[torch.Tensor, int]:
        """Positions ``(3, length)`` and the offset that decoding continues with."""
        features = sorted(mm_features, key=lambda feature: feature.mm_position.offset)
        grids = {
            f"{modality}_grid_thw": torch.stack([grid.reshape(3) for grid in found])
            for modality in ("image", "video")
            if (found := _column(features, modality, f"{modality}_grid_thw"))
        }
        seconds = _column(features, "video", "second_per_grid_ts")
        audio = _column(features, "audio", "audio_feature_lengths")
        positions, delta = OmniRope(self.config).get_rope_index(
            torch.tensor([input_tokens]),
            **grids,
            audio_seqlens=torch.cat([length.reshape(1) for length in audio]) if audio else None,
            second_per_grids=torch.cat([second.reshape(1) for second in seconds]) if seconds else None,
        )
        return positions[:, 0].long(), int(delta)
