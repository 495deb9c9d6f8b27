"""Qwen2.5-Omni's Thinker as a policy: the full checkpoint's layout, the Thinker's weights alone.

verl looks a model class up in ``AutoModelForImageTextToText`` by the type of its config; transformers has none there
for ``Qwen2_5OmniConfig``. Parameter names keep the ``thinker.`` prefix that vLLM's loader expects.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from transformers import AutoModelForImageTextToText, Qwen2_5OmniConfig
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import (
    Qwen2_5OmniPreTrainedModel,
    Qwen2_5OmniThinkerCausalLMOutputWithPast,
    Qwen2_5OmniThinkerForConditionalGeneration,
)

from verl_ext.models.chunks import attend_by_length
from verl_ext.models.head import Read, head_on_rows
from verl_ext.models.settings import TOWERS

# Out of reach for sampling, finite so that entropy (p · log p) stays a number.
BANNED_LOGIT = -1e4


@dataclass
class PolicyOutput(Qwen2_5OmniThinkerCausalLMOutputWithPast):
    """The Thinker's output with what was read of the logits; see :meth:`Qwen2_5OmniThinkerPolicy.forward`."""

    scores: torch.Tensor | None = None


class Qwen2_5OmniThinkerPolicy(Qwen2_5OmniPreTrainedModel):
    """The Thinker of a full Qwen2.5-Omni checkpoint; talker and token2wav weights are left aside."""

    config_class = Qwen2_5OmniConfig
    _keys_to_ignore_on_load_unexpected = (r"^talker\.", r"^token2wav\.")
    takes_logits_at = True
    """Whether :meth:`forward` has ``logits_at`` and ``scores_at``; wrappers of the model hand the attribute on."""

    def __init__(self, config: Qwen2_5OmniConfig):
        super().__init__(config)
        self.thinker = Qwen2_5OmniThinkerForConditionalGeneration(config.thinker_config)
        self.post_init()
        attend_by_length(self.thinker)
        # peft asks a causal language model for it; defined in the class, transformers would warn at every load.
        self.prepare_inputs_for_generation = self.thinker.prepare_inputs_for_generation
        # FSDP wraps by these; transformers would name whole encoders, whose inner layers then fail as DTensors.
        self._no_split_modules = [
            "Qwen2_5OmniDecoderLayer",
            "Qwen2_5OmniVisionBlock",
            "Qwen2_5OmniAudioEncoderLayer",
        ]
        thinker = config.thinker_config
        self.media_token_ids = [
            thinker.image_token_id,
            thinker.video_token_id,
            thinker.audio_token_id,
            thinker.vision_start_token_id,
            thinker.vision_end_token_id,
            thinker.audio_start_token_id,
            thinker.audio_end_token_id,
        ]

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.thinker.get_input_embeddings()

    def set_input_embeddings(self, value: torch.nn.Module) -> None:
        self.thinker.set_input_embeddings(value)

    def freeze(self, towers: Iterable[str]) -> None:
        """Leave whole encoders, projections into the text model included, as they are.

        Args:
            towers: of :data:`verl_ext.models.settings.TOWERS`.

        Raises:
            ValueError: there is no such tower.
        """
        for tower in towers:
            if tower not in TOWERS:
                raise ValueError(f"there is no tower {tower!r} to freeze; the towers are {', '.join(TOWERS)}")
            getattr(self.thinker, TOWERS[tower]).requires_grad_(False)

    def forward(
        self,
        input_ids: torch.Tensor,
        logits_at: torch.Tensor | None = None,
        scores_at: torch.Tensor | None = None,
        score: Read | None = None,
        **inputs: Any,
    ) -> Any:
        """The Thinker's forward with the seven media tokens out of reach, as they are in the rollout.

        Args:
            input_ids: ``(batch, length)``.
            logits_at: ``(N,)`` int64, places in the flattened ``batch · length``, also several times the same. The
                head then runs there only, and the output's logits are ``(N, V)`` instead of ``(batch, length, V)``.
            scores_at: ``(M,)`` int64, more such places, whose logits are only read; needs ``logits_at``.
            score: makes of some logits ``(m, V)``, and which of the M they are, ``(m, k)``: the output's ``scores``
                are ``(M, k)``. Not all logits are in memory at a time.
            inputs: as for ``Qwen2_5OmniThinkerForConditionalGeneration``.
        """
        # A continuation: the media are in the cache, on every rank. LoRA's wrapper hands over inputs_embeds=None.
        cached = (cache := inputs.get("past_key_values")) is not None and cache.get_seq_length() > 0
        if not cached and inputs.get("inputs_embeds") is None and dist.is_initialized() and dist.get_world_size() > 1:
            inputs["inputs_embeds"] = self._embed_in_fixed_order(input_ids, inputs)
        if logits_at is None:
            only = nullcontext()
        else:
            read = None if score is None else lambda logits, which: score(self._without_media(logits), which)
            only = head_on_rows(self.thinker.lm_head, logits_at, scores_at, read)
        with only:
            output = self.thinker(input_ids=input_ids, **inputs)
        scores = None
        if scores_at is not None:
            output.logits, scores = output.logits
        output.logits = self._without_media(output.logits)
        return output if scores is None else PolicyOutput(**output, scores=scores)

    def _without_media(self, logits: torch.Tensor) -> torch.Tensor:
        banned = torch.tensor(self.media_token_ids, device=logits.device)
        return logits.index_fill(-1, banned, BANNED_LOGIT)

    def _embed_in_fixed_order(self, input_ids: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """Embeddings ``(batch, length, hidden)`` of tokens and media; takes the media out of ``inputs``.

        Every rank gathers an encoder's shards when it runs it, so all ranks must run the encoders in one order: audio,
        then vision. An encoder that a rank's batch does not need runs on a dummy clip, times zero.
        """
        thinker = self.thinker
        embeds = thinker.get_input_embeddings()(input_ids)
        features = inputs.pop("input_features", None)
        if features is None:
            embeds = embeds + 0.0 * self._dummy_audio(embeds).sum()
        else:
            audio = thinker.get_audio_features(features, inputs.get("feature_attention_mask"), None, return_dict=True)
            _, _, mask = thinker.get_placeholder_mask(input_ids, inputs_embeds=embeds)
            embeds = embeds.masked_scatter(mask, audio.last_hidden_state.to(embeds.dtype))
        images, videos = inputs.pop("pixel_values", None), inputs.pop("pixel_values_videos", None)
        if images is None and videos is None:
            embeds = embeds + 0.0 * self._dummy_video(embeds).sum()
        if images is not None:
            image = thinker.get_image_features(images, inputs["image_grid_thw"], return_dict=True).pooler_output
            image = image.to(embeds.dtype)
            mask, _, _ = thinker.get_placeholder_mask(input_ids, inputs_embeds=embeds, image_features=image)
            embeds = embeds.masked_scatter(mask, image)
        if videos is not None:
            video = thinker.get_video_features(videos, inputs["video_grid_thw"], return_dict=True).pooler_output
            video = video.to(embeds.dtype)
            _, mask, _ = thinker.get_placeholder_mask(input_ids, inputs_embeds=embeds, video_features=video)
            embeds = embeds.masked_scatter(mask, video)
        return embeds

    def _dummy_video(self, like: torch.Tensor) -> torch.Tensor:
        vision = self.config.thinker_config.vision_config
        side = vision.spatial_merge_size
        patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        pixels = torch.zeros(side * side, patch, device=like.device, dtype=like.dtype)
        grid = torch.tensor([[1, side, side]], device=like.device)
        return self.thinker.get_video_features(pixels, grid, return_dict=True).pooler_output

    def _dummy_audio(self, like: torch.Tensor) -> torch.Tensor:
        frames = 8
        mels = self.config.thinker_config.audio_config.num_mel_bins
        features = torch.zeros(1, mels, frames, device=like.device, dtype=like.dtype)
        mask = torch.ones(1, frames, dtype=torch.long, device=like.device)
        return self.thinker.get_audio_features(features, mask, None, return_dict=True).last_hidden_state


def register() -> None:
    """Make verl find the policy for a full Qwen2.5-Omni config; a second call changes nothing."""
    AutoModelForImageTextToText.register(Qwen2_5OmniConfig, Qwen2_5OmniThinkerPolicy, exist_ok=True)
