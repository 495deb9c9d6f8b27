"""Qwen2.5-Omni's processor as verl expects one, and the token ids that stand for media."""

from __future__ import annotations

from typing import Any

from verl_ext.models.rope import OmniRope, rope_kwargs

MODEL_TYPES = ("qwen2_5_omni", "qwen2_5_omni_thinker")
MEDIA_TOKENS = ("image", "video", "audio", "vision_bos", "vision_eos", "audio_bos", "audio_eos")


def is_omni(processor: Any) -> bool:
    return type(processor).__name__ == "Qwen2_5OmniProcessor"


def bind(processor: Any, config: Any) -> Any:
    """Give a ``Qwen2_5OmniProcessor`` what verl asks a processor for; returns the same object.

    Adds ``config``, the seven ``*_token_id`` attributes, ``get_rope_index`` and ``get_rope_index_kwargs``.
    """
    processor.config = config
    for name in MEDIA_TOKENS:
        token = getattr(processor, f"{name}_token")
        setattr(processor, f"{name}_token_id", processor.tokenizer.convert_tokens_to_ids(token))
    processor.rope = OmniRope(config)
    processor.get_rope_index = processor.rope.get_rope_index
    processor.get_rope_index_kwargs = rope_kwargs
    return processor


def media_token_ids(processor: Any) -> list[int]:
    """The ids that only a media file may put into a sequence; a sampled one would have no features behind it."""
    return [getattr(processor, f"{name}_token_id") for name in MEDIA_TOKENS]


def collapse_media(prompt_ids: list[int], processor: Any) -> list[int]:
    """Expanded prompt ids -> one placeholder per media item, as vLLM wants them before it expands them itself.

    A run of one placeholder becomes one; an interleaved block ``<|vision_bos|><|audio_bos|> … <|audio_eos|>
    <|vision_eos|>`` (audio in video) becomes ``<|vision_bos|><|VIDEO|><|vision_eos|>``.

    Raises:
        ValueError: such a block does not end.
    """
    placeholders = {processor.image_token_id, processor.video_token_id, processor.audio_token_id}
    collapsed: list[int] = []
    position = 0
    while position < len(prompt_ids):
        token = prompt_ids[position]
        if prompt_ids[position : position + 2] == [processor.vision_bos_token_id, processor.audio_bos_token_id]:
            ends = (at for at in range(position, len(prompt_ids)) if prompt_ids[at] == processor.audio_eos_token_id)
            end = next(ends, len(prompt_ids))
            if prompt_ids[end + 1 : end + 2] != [processor.vision_eos_token_id]:
                raise ValueError(
                    f"audio-in-video block at token {position} is not closed by <|audio_eos|><|vision_eos|>"
                )
            collapsed += [processor.vision_bos_token_id, processor.video_token_id, processor.vision_eos_token_id]
            position = end + 2
            continue
        if not (token in placeholders and collapsed and collapsed[-1] == token):
            collapsed.append(token)
        position += 1
    return collapsed
