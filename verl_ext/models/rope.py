"""M-RoPE positions of Qwen2.5-Omni prompts, from the configuration alone (no weights).

transformers' own ``get_rope_index`` is the one source of positions: the actor, the SFT dataset and, through
:mod:`verl_ext.rollout.vllm_model`, the rollout all call it.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, ClassVar

import torch


class OmniRope:
    """Borrows ``get_rope_index`` and its helpers from transformers' Thinker; needs a config, no weights.

    Args:
        config: a ``Qwen2_5OmniConfig`` or its ``thinker_config``.
    """

    # Own name -> the Thinker's. Looked up at every use: a bound method kept on the object could not be pickled.
    _BORROWED: ClassVar[dict[str, str]] = {
        "_get_rope_index": "get_rope_index",
        "get_llm_pos_ids_for_vision": "get_llm_pos_ids_for_vision",
        "get_chunked_index": "get_chunked_index",
    }

    def __init__(self, config: Any):
        self.config = getattr(config, "thinker_config", config)
        self.spatial_merge_size = self.config.vision_config.spatial_merge_size

    def __getattr__(self, name: str) -> Any:
        if name not in self._BORROWED:
            raise AttributeError(name)
        from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import (
            Qwen2_5OmniPreTrainedModelForConditionalGeneration as Thinker,
        )

        return MethodType(getattr(Thinker, self._BORROWED[name]), self)

    def has_audio_in_video(self, input_ids: torch.Tensor) -> bool:
        """Whether a prompt interleaves audio with video: ``<|vision_bos|><|audio_bos|>`` stand side by side.

        Args:
            input_ids: ``(length,)``.
        """
        starts_vision = input_ids[:-1] == self.config.vision_start_token_id
        starts_audio = input_ids[1:] == self.config.audio_start_token_id
        return bool((starts_vision & starts_audio).any())

    def get_rope_index(
        self,
        input_ids: torch.Tensor,
        image_grid_thw: torch.Tensor | None = None,
        video_grid_thw: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        audio_seqlens: torch.Tensor | None = None,
        second_per_grids: torch.Tensor | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions ``(3, batch, length)`` and deltas ``(batch, 1)`` of ``input_ids (batch, length)``."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if second_per_grids is not None:
            second_per_grids = torch.as_tensor(second_per_grids, dtype=torch.float32)
        return self._get_rope_index(
            input_ids,
            image_grid_thw,
            video_grid_thw,
            attention_mask,
            self.has_audio_in_video(input_ids[0]),
            audio_seqlens,
            second_per_grids,
        )


def rope_kwargs(multi_modal_inputs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of :meth:`OmniRope.get_rope_index` that the processor's output implies."""
    mask = multi_modal_inputs.get("feature_attention_mask")
    return {
        "audio_seqlens": None if mask is None else mask.sum(-1),
        "second_per_grids": multi_modal_inputs.get("video_second_per_grid"),
    }


def position_ids(rope: OmniRope, input_ids: torch.Tensor, multi_modal_inputs: dict[str, Any]) -> torch.Tensor:
    """verl's four position channels of one sequence: text order, then M-RoPE's time, height and width.

    Args:
        input_ids: ``(length,)``, prompt and response together.

    Returns:
        ``(4, length)`` int64.
    """
    mrope_3BL, _ = rope.get_rope_index(
        input_ids.unsqueeze(0),
        image_grid_thw=multi_modal_inputs.get("image_grid_thw"),
        video_grid_thw=multi_modal_inputs.get("video_grid_thw"),
        **rope_kwargs(multi_modal_inputs),
    )
    text_1L = torch.arange(len(input_ids)).unsqueeze(0)
    return torch.cat([text_1L, mrope_3BL[:, 0].long()], dim=0)
