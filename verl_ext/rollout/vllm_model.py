"""vLLM's Qwen2.5-Omni Thinker with transformers' positions and transformers' order of audio in video.

What it fixes, all for audio in video only:

* vLLM 0.28.0 starts the interleaved positions at ``<|audio_bos|>``, one token early (``get_mrope_input_positions``);
  log-probs are then off by 1e-3 to 5e-3. Here both sides ask :class:`verl_ext.models.rope.OmniRope`.
* vLLM 0.28.0 weaves the tokens as if every video had 2 frames a second, whatever ``fps`` the processor is given
  (``_get_prompt_updates``): the rollout's prompt is then another one than the actor's. Here both sides cut chunks with
  transformers' ``get_chunked_index``.
* vLLM 0.24.0 takes a batch for interleaved only if it is one run of media tokens (``check_interleaved_audio_video``).
  With two prompts in a batch, features of one medium silently land on tokens of the other, and log-probs are off by .3
  to .9. vLLM 0.28.0 looks at each run. Here, on 0.24.0, features are placed run by run.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from transformers.models.qwen2_5_omni.processing_qwen2_5_omni import Qwen2_5OmniProcessor
from vllm.model_executor.models.qwen2_5_omni_thinker import (
    Qwen2_5OmniThinkerDummyInputsBuilder,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2_5OmniThinkerMultiModalProcessor,
    Qwen2_5OmniThinkerProcessingInfo,
    merge_interleaved_embeddings,
)
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.processing import PromptUpdate, PromptUpdateDetails

from verl_ext.models.rope import OmniRope
from verl_ext.rollout.media_runs import scatter_runs

TAKES_ONE_RUN = "num_video" in inspect.signature(merge_interleaved_embeddings).parameters
"""Whether this vLLM looks at the whole batch at once (0.24.0). Later releases tell an item's modality by its own."""


def _column(features: list[Any], modality: str, key: str) -> list[torch.Tensor]:
    """The values of ``key`` of the features of one modality, in prompt order."""
    values = []
    for feature in features:
        element = feature.data.get(key) if feature.modality == modality and feature.data is not None else None
        if element is not None and element.data is not None:
            values.append(torch.as_tensor(element.data))
    return values


def interleave(config: Any, audio_tokens: int, grid_thw: Sequence[int], seconds_per_grid: float) -> list[int]:
    """Token ids of a video with its audio, ``<|audio_bos|> video audio video audio … <|audio_eos|>``.

    Args:
        config: the ``thinker_config``.
        audio_tokens: number of the audio's tokens.
        grid_thw: patches of the video in time, height and width, before spatial merging.
        seconds_per_grid: duration of one patch in time.
    """
    frames, height, width = (int(size) for size in grid_thw)
    per_grid = height * width // config.vision_config.spatial_merge_size**2
    ids_per_chunk = int(config.position_id_per_seconds * config.seconds_per_chunk)
    times = np.repeat(np.arange(frames), per_grid) * seconds_per_grid * config.position_id_per_seconds
    # The method uses no attribute of the processor.
    video = Qwen2_5OmniProcessor.get_chunked_index(None, times, ids_per_chunk)
    audio = Qwen2_5OmniProcessor.get_chunked_index(None, np.arange(audio_tokens), ids_per_chunk)
    ids = [config.audio_start_token_id]
    for (video_start, video_end), (audio_start, audio_end) in zip_longest(video, audio, fillvalue=(0, 0)):
        ids += [config.video_token_id] * (video_end - video_start) + [config.audio_token_id] * (audio_end - audio_start)
    return [*ids, config.audio_end_token_id]


class OmniThinkerProcessor(Qwen2_5OmniThinkerMultiModalProcessor):
    """The same processor; audio in video is woven in transformers' order."""

    def _get_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, Any], out_mm_kwargs: Any
    ) -> Sequence[PromptUpdate]:
        updates = super()._get_prompt_updates(mm_items, hf_processor_mm_kwargs, out_mm_kwargs)
        arguments = self.info.ctx.get_merged_mm_kwargs(hf_processor_mm_kwargs)
        if not arguments.get("use_audio_in_video"):
            return updates
        config, data = self.info.get_hf_config(), out_mm_kwargs.get_data()
        temporal_patch = self.info.get_hf_processor(**hf_processor_mm_kwargs).video_processor.temporal_patch_size
        seconds_per_grid = temporal_patch / arguments.get("fps", 2.0)

        def woven(item: int) -> PromptUpdateDetails:
            mel_frames = int(data["audio_feature_lengths"][item])
            audio_tokens = ((mel_frames - 1) // 2 + 1 - 2) // 2 + 1  # a convolution and a pooling, both of stride 2
            ids = interleave(config, audio_tokens, data["video_grid_thw"][item], seconds_per_grid)
            return PromptUpdateDetails.select_token_id(seq=ids, embed_token_id=config.video_token_id)

        return [replace(update, replacement=woven) if update.modality == "video" else update for update in updates]


@MULTIMODAL_REGISTRY.register_processor(
    OmniThinkerProcessor,
    info=Qwen2_5OmniThinkerProcessingInfo,
    dummy_inputs=Qwen2_5OmniThinkerDummyInputsBuilder,
)
class OmniThinker(Qwen2_5OmniThinkerForConditionalGeneration):
    """The same model; positions and the order of audio in video come from transformers."""

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

    def embed_input_ids(
        self, input_ids: torch.Tensor, multimodal_embeddings: Any = None, *, is_multimodal: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Embeddings ``(T, hidden)`` of the tokens of a batch of prompts, the encoders' outputs in their places."""
        in_text_alone = is_multimodal is None or not multimodal_embeddings
        if not TAKES_ONE_RUN or in_text_alone:
            return super().embed_input_ids(input_ids, multimodal_embeddings, is_multimodal=is_multimodal)
        of_tokens = self._embed_text_input_ids(
            input_ids, self.get_language_model().embed_input_ids, is_multimodal=is_multimodal
        )
        is_video = is_multimodal & (input_ids.to(is_multimodal.device) == self.config.video_token_index)
        return scatter_runs(of_tokens, multimodal_embeddings, is_multimodal, is_video)
