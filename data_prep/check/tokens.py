"""Tokens of a clip's prompt, counted from sizes and lengths; the only part of data_prep that needs torch.

Nothing is decoded again: the model's processor decides by numbers alone how many tokens a picture and a sound become.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_prep.check.verdicts import Media
from data_prep.clip import Clip, CorpusError
from recipe.mer_r1.answer import build_prompt

_PLACEHOLDER = re.compile("(<video>|<audio>)")


def counter(model: Path, sampling_rate: int) -> Callable[[Clip, Media], int]:
    """A function that counts the tokens of a clip's prompt, as training writes it and with its defaults for media.

    The function raises ValueError for a clip that the processor refuses. Raises CorpusError for a folder that holds no
    processor.
    """
    from transformers import AutoProcessor

    from verl_ext.omni.encode import MediaConfig
    from verl_ext.omni.processor import is_omni

    try:
        processor = AutoProcessor.from_pretrained(model)
    except (OSError, ValueError, KeyError) as error:
        raise CorpusError(
            f"--model {model}: no processor there ({error}); name the folder of a Qwen2.5-Omni"
        ) from error
    if not is_omni(processor):
        raise CorpusError(f"--model {model}: not a Qwen2.5-Omni but {type(processor).__name__}")
    media = MediaConfig(sampling_rate=sampling_rate)

    def count(clip: Clip, found: Media) -> int:
        if found.video is None or found.audio is None:
            raise ValueError("a clip without picture or sound has no prompt")
        return _words(processor, clip) + _picture(processor, media, found) + _sound(processor, found)

    return count


def _words(processor: Any, clip: Clip) -> int:
    """All but what the two placeholders become."""
    pieces = _PLACEHOLDER.split(build_prompt(clip.subtitle, clip.options))
    content = [
        {"type": each[1:-1]} if _PLACEHOLDER.fullmatch(each) else {"type": "text", "text": each}
        for each in pieces
        if each
    ]
    messages = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return len(processor.tokenizer(text)["input_ids"]) - 2


def _picture(processor: Any, media: Any, found: Media) -> int:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    from verl_ext.omni.media import sample_indices

    facts, video = found.video[1], processor.video_processor
    kept = len(sample_indices(facts.frames, facts.fps or media.fps, media.fps, media.max_frames))
    side = video.patch_size * video.merge_size
    size = smart_resize(facts.height, facts.width, side, media.min_pixels, media.max_pixels)
    return kept // video.temporal_patch_size * (size[0] // side) * (size[1] // side)


def _sound(processor: Any, found: Media) -> int:
    samples, heard = found.audio[1].samples, processor.feature_extractor.n_samples
    if samples > heard:
        rate = found.audio[1].heard_rate
        raise ValueError(f"a sound of {samples / rate:.1f} s, of which the model hears {heard / rate:.1f} s")
    spectra = -(-samples // processor.feature_extractor.hop_length)
    # Two convolutions of stride 2, as in the processor.
    return ((spectra - 1) // 2 + 1 - 2) // 2 + 1
