"""How many tokens a prompt will have, from its text and what a clip's decoding showed: no pixels, no processor run.

The rules are those of transformers' ``Qwen2_5OmniProcessor``; a test holds every count against
:class:`verl_ext.data.encode.PromptEncoder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl_ext.data.clock import sample_indices
from verl_ext.data.encode import MediaConfig

_FRAMES_A_PATCH = 2
"""temporal_patch_size of the vision tower."""


@dataclass(frozen=True)
class VideoFacts:
    """A video as its file has it, before any frame is dropped or scaled.

    Attributes:
        frames: number of frames that decode.
        fps: frames per second of the clip, by their time stamps (:class:`verl_ext.data.clock.Timeline`); None where
            neither the time stamps nor the header say.
        height, width: of an upright frame, in pixels.
    """

    frames: int
    fps: float | None
    height: int
    width: int


class PromptCounter:
    """Counts the tokens of prompts as :class:`verl_ext.data.encode.PromptEncoder` makes them.

    Args:
        model_folder: a Qwen2.5-Omni checkpoint: its tokenizer, chat template and processor settings are read.
        media: how clips are decoded and scaled.
        chat_template_kwargs: handed to the chat template.
    """

    def __init__(
        self, model_folder: str | Path, media: MediaConfig, chat_template_kwargs: Mapping[str, Any] | None = None
    ) -> None:
        from transformers import AutoProcessor

        self._processor = AutoProcessor.from_pretrained(model_folder)
        self._media = media
        self._template = dict(chat_template_kwargs or {})

    def count(
        self, prompt: Sequence[Mapping[str, Any]], videos: Sequence[VideoFacts] = (), audios: Sequence[int] = ()
    ) -> int:
        """Tokens of a row's prompt with the generation prompt appended.

        Args:
            prompt: chat messages with ``<video>`` and ``<audio>`` in their text, as a shard has them.
            videos: of each ``<video>``, in order.
            audios: number of samples, at ``media.sampling_rate``, of each ``<audio>`` in order, or, with
                ``use_audio_in_video``, of each video's track.

        Raises:
            ValueError: another number of clips than the text asks for, a video without frames, or a sound that is
                longer than the processor hears.
        """
        text = "".join(message["content"] for message in prompt)
        interleaved = self._media.use_audio_in_video
        heard = len(videos) if interleaved else text.count("<audio>")
        if interleaved and "<audio>" in text:
            raise ValueError("<audio> is in the prompt, but media.use_audio_in_video takes the sound from <video>")
        for name, wanted, given in (("<video>", text.count("<video>"), videos), ("audio", heard, audios)):
            if wanted != len(given):
                raise ValueError(f"the prompt has {wanted} {name} items, but {len(given)} clips are given")
        # Each item is one placeholder in the text; interleaved ones get <|audio_bos|> and <|audio_eos|> in addition.
        expanded = sum(self.video_tokens(video) - 1 for video in videos)
        expanded += sum(self.audio_tokens(samples) + (2 if interleaved else -1) for samples in audios)
        return self._text_tokens(prompt) + expanded

    def video_tokens(self, video: VideoFacts) -> int:
        """Tokens of the kept frames of a video. Raises as :func:`video_grid`."""
        processor = self._processor.video_processor
        patches, height, width = video_grid(video, self._media, processor.patch_size, processor.merge_size)
        return patches * height * width // processor.merge_size**2

    def audio_tokens(self, samples: int) -> int:
        """Tokens of a sound of so many samples.

        Raises:
            ValueError: it is longer than the processor hears.
        """
        extractor = self._processor.feature_extractor
        if samples > extractor.n_samples:
            rate = self._media.sampling_rate
            raise ValueError(
                f"the sound is {samples / rate:.1f} s long, but the model's processor takes at most "
                f"{extractor.n_samples / rate:.1f} s"
            )
        return audio_tokens(-(-samples // extractor.hop_length))

    def _text_tokens(self, prompt: Sequence[Mapping[str, Any]]) -> int:
        from verl_ext.data.dataset import build_messages

        text = "".join(message["content"] for message in prompt)
        clips = {"videos": [""] * text.count("<video>"), "audios": [""] * text.count("<audio>")}
        messages = build_messages({"prompt": prompt, **clips})
        rendered = self._processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **self._template
        )
        return len(self._processor.tokenizer(rendered)["input_ids"])


def video_grid(
    video: VideoFacts, media: MediaConfig, patch_size: int = 14, merge_size: int = 2
) -> tuple[int, int, int]:
    """Patches of the kept and scaled frames: pairs of frames, rows, columns. merge_size² of them become a token.

    Args:
        patch_size: side of a patch in pixels.
        merge_size: patches that are merged along either side.

    Raises:
        ValueError: there is no frame, or a frame is over 200 times as long as it is wide.
    """
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    if video.frames < 1:
        raise ValueError(f"the video has no frames: {video}")
    kept = len(sample_indices(video.frames, video.fps or media.fps, media.fps, media.max_frames))
    height, width = smart_resize(
        video.height,
        video.width,
        factor=patch_size * merge_size,
        min_pixels=media.min_pixels,
        max_pixels=media.max_pixels,
    )
    return -(-kept // _FRAMES_A_PATCH), height // patch_size, width // patch_size


def audio_tokens(mel_frames: int) -> int:
    """Tokens of a sound, after a convolution and a pooling of stride 2 (as the model computes its output lengths)."""
    return max(0, ((mel_frames - 1) // 2 + 1 - 2) // 2 + 1)
