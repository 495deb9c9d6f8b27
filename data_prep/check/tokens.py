"""Tokens of a clip's prompt, from what its decoding showed; the only part of data_prep that needs torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data_prep.check.verdicts import Media
from data_prep.clip import Clip, CorpusError
from recipe.mer_r1.method.answer import build_prompt


def counter(model: Path, settings: Mapping[str, Any]) -> Callable[[Clip, Media], int]:
    """A function that counts the tokens of a clip's prompt, as training writes it with these media settings.

    The function raises ValueError for a clip that the processor refuses. Raises CorpusError for a folder that holds no
    Qwen2.5-Omni, or a setting that training does not know.
    """
    _check_model(model)
    from verl_ext.data.encode import MediaConfig
    from verl_ext.data.token_count import PromptCounter, VideoFacts

    try:
        media_config = MediaConfig.from_config(settings)
    except TypeError as error:
        raise CorpusError(f"media settings {dict(settings)}: {error}; see preset.media in docs/data.md") from error
    try:
        prompts = PromptCounter(model, media_config)
    except (OSError, ValueError, KeyError) as error:
        raise CorpusError(
            f"--model {model}: its processor cannot be loaded ({error}); copy or download the model again"
        ) from error

    def count(clip: Clip, media: Media) -> int:
        if media.video is None or media.audio is None:
            raise ValueError("a clip without picture or sound has no prompt")
        picture, sound = media.video[1], media.audio[1]
        content = build_prompt(clip.subtitle, clip.options)
        if media_config.use_audio_in_video:
            content = content.replace("<audio>", "")
        prompt = [{"role": "user", "content": content}]
        facts = VideoFacts(picture.frames, picture.fps or None, picture.height, picture.width)
        return prompts.count(prompt, [facts], [sound.samples])

    return count


def _check_model(model: Path) -> None:
    from verl_ext.models.processor import MODEL_TYPES

    try:
        kind = json.loads((model / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(
            f"--model {model}: not a model folder ({error!r}); use a folder with a config.json"
        ) from error
    if kind not in MODEL_TYPES:
        raise CorpusError(
            f"--model {model}: model type {kind!r} is not Qwen2.5-Omni; use the model that you will train"
        )
