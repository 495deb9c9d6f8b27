"""How much there is to do in a step: tokens of a clip, sequences of a GPU, sizes of the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from verl_ext.data.encode import MediaConfig
from verl_ext.data.token_count import VideoFacts, audio_tokens, video_grid
from verl_ext.models.flops import audio_forward, vision_forward
from verl_ext.models.published import TEXT, published_config

MEL_FRAMES_A_SECOND = 100


class EstimateError(ValueError):
    """What was asked for cannot be estimated; says why, and the way out."""


@dataclass(frozen=True)
class Model:
    """A Thinker without its weights; numbers of parameters.

    Attributes:
        config: `thinker_config`.
        unit: the largest unit that FSDP gathers: the embedding, the head, or a block.
        trained: of all parameters, those that training changes.
    """

    name: str
    config: Any
    text: int
    towers: int
    unit: int
    trained: int

    @property
    def all(self) -> int:
        """Parameters of the Thinker."""
        return self.text + self.towers


@dataclass(frozen=True)
class Clip:
    """A clip's tokens, and what the towers compute for it (FLOPs, forward)."""

    video_tokens: int
    audio_tokens: int
    text_tokens: int
    tower_flops: float

    @property
    def prompt(self) -> int:
        """Tokens of the prompt."""
        return self.video_tokens + self.audio_tokens + self.text_tokens


def load_model(config: DictConfig, folder: str | None) -> Model:
    """The model of a composed `ppo` configuration, or of a folder, built on torch's meta device and counted.

    Raises:
        EstimateError: its shape is not known.
    """
    import torch
    from transformers import AutoConfig

    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

    name = folder or config.preset.sft.model_path
    if Path(name).is_dir():
        full = AutoConfig.from_pretrained(name)
    elif name in TEXT:
        full = published_config(name)
    else:
        raise EstimateError(f"{name}: not a folder and not one of {', '.join(TEXT)}; set estimate.model=DIR")
    with torch.device("meta"):
        policy = Qwen2_5OmniThinkerPolicy(full)
    thinker = policy.thinker
    parts = {name: _count(getattr(thinker, name)) for name in ("visual", "audio_tower")}
    towers = sum(parts.values())
    text = _count(policy) - towers
    frozen = {"vision": "visual", "audio": "audio_tower"}
    trained = text + towers - sum(parts[frozen[name]] for name in config.preset.frozen_towers)
    text_config = full.thinker_config.text_config
    embedding = text_config.vocab_size * text_config.hidden_size
    if config.preset.lora.rank:
        trained = _adapters(thinker, config.preset.lora)
    return Model(name, full.thinker_config, text, towers, embedding, trained)


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _adapters(thinker: Any, lora: DictConfig) -> int:
    """Parameters of LoRA's two matrices for every projection of the text model's blocks that it adapts."""
    import re

    import torch

    return sum(
        lora.rank * (module.in_features + module.out_features)
        for name, module in thinker.named_modules(prefix="thinker")
        if isinstance(module, torch.nn.Linear) and re.fullmatch(lora.targets, name)
    )


def clip(model: Model, preset: DictConfig, assumed: DictConfig) -> Clip:
    """What the assumed clip is to this model with the preset's media settings.

    Raises:
        EstimateError: prompt or response are over the preset's limits.
    """
    seconds = min(assumed.clip.seconds, preset.media.max_seconds)
    facts = VideoFacts(
        round(assumed.clip.seconds * assumed.clip.fps), assumed.clip.fps, assumed.clip.height, assumed.clip.width
    )
    vision = model.config.vision_config
    media = MediaConfig.from_config(OmegaConf.to_container(preset.media))
    grid = video_grid(facts, media, vision.patch_size, vision.spatial_merge_size)
    mel = round(MEL_FRAMES_A_SECOND * seconds)
    found = Clip(
        video_tokens=grid[0] * grid[1] * grid[2] // vision.spatial_merge_size**2,
        audio_tokens=audio_tokens(mel),
        text_tokens=assumed.text_tokens,
        tower_flops=vision_forward(vision, grid) + audio_forward(model.config.audio_config, mel),
    )
    limits = (
        ("prompt", found.prompt, preset.max_prompt_length),
        ("response", assumed.response_tokens, preset.max_response_length),
    )
    for what, tokens, limit in limits:
        if tokens > limit:
            raise EstimateError(
                f"the {what} has {tokens} tokens, over preset.max_{what}_length={limit}; raise the limit"
            )
    return found
