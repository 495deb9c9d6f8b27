"""From chat messages with clips to what the actor and vLLM take: shared by SFT, RL and evaluation."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from verl_ext.data.bounded import SECONDS
from verl_ext.data.clip_cache import ClipCache
from verl_ext.data.demux import ClipSource
from verl_ext.data.media import MediaError, Video, read_audio, read_video
from verl_ext.data.prompt_text import check_text


@dataclass(frozen=True)
class MediaConfig:
    """How clips are decoded and scaled (``data.media`` in the configuration).

    Attributes:
        fps: video frames kept per second of clip.
        max_frames: upper bound on kept frames.
        min_pixels, max_pixels: bounds on a frame's area after resizing; both are always handed to the processor,
            which otherwise scales small frames up to 128 patches.
        sampling_rate: of the audio, in Hz.
        max_seconds: longest audio accepted.
        use_audio_in_video: take the audio from the video file and interleave it with the frames in time.
        cache_folder: where decoded clips are kept (:mod:`verl_ext.data.clip_cache`); None: nowhere.
        cache_gb: about the most that they take there, in 10⁹ bytes.
        decode_seconds: the longest that reading a clip may take.
    """

    fps: float = 2.0
    max_frames: int = 64
    min_pixels: int = 128 * 28 * 28
    max_pixels: int = 768 * 28 * 28
    sampling_rate: int = 16_000
    max_seconds: float = 300.0
    use_audio_in_video: bool = False
    cache_folder: str | None = None
    cache_gb: float = 10.0
    decode_seconds: float = SECONDS

    def __post_init__(self) -> None:
        if self.cache_folder and self.cache_gb <= 0:
            raise ValueError(
                f"media.cache_gb={self.cache_gb} must be positive. Raise it, or set media.cache_folder to null."
            )
        if not self.decode_seconds > 0:
            raise ValueError(
                f"media.decode_seconds={self.decode_seconds} must be positive: seconds that reading a clip may take."
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> MediaConfig:
        """Read a mapping; unknown keys are errors (``TypeError``)."""
        return cls(**{str(key): value for key, value in config.items()})


@dataclass
class EncodedPrompt:
    """A prompt ready for both sides.

    Attributes:
        prompt_ids: token ids, media placeholders expanded.
        inputs: the processor's tensors for the actor (``pixel_values_videos``, ``video_grid_thw``,
            ``video_second_per_grid``, ``input_features (1, mels, frames)``, ``feature_attention_mask``).
        videos: raw frames ``(T, 3, H, W)`` uint8, for vLLM, which runs the processor itself.
        audios: raw samples, for vLLM.
        processor_kwargs: the processor arguments of this prompt; vLLM must use the same.
    """

    prompt_ids: list[int]
    inputs: dict[str, torch.Tensor]
    videos: list[torch.Tensor] = field(default_factory=list)
    audios: list[np.ndarray] = field(default_factory=list)
    processor_kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Memory that the media take."""
        return sum(item.nbytes for item in (*self.inputs.values(), *self.videos, *self.audios))


class PromptEncoder:
    """Decodes media, renders the chat template and runs the processor; remembers the last prompts.

    The G responses of a group, and every epoch after the first, reuse one encoding. The newest prompt is kept whatever
    its size is: its group asks for it again at once.

    Args:
        processor: a Qwen2_5OmniProcessor, bound by :func:`verl_ext.models.processor.bind`.
        media: how clips are decoded and scaled.
        cache_size: the most encoded prompts that are kept.
        cache_gb: about the most memory that they take, in 10⁹ bytes; None: no limit. 64 frames of 1920 × 1080 take
            0.4, and as much again as the processor's tensors.
        chat_template_kwargs: handed to the chat template.
    """

    def __init__(
        self,
        processor: Any,
        media: MediaConfig,
        cache_size: int = 64,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        cache_gb: float | None = None,
    ) -> None:
        self.processor = processor
        self.media = media
        self.cache_size = cache_size
        self._limit = math.inf if cache_gb is None else cache_gb * 1e9
        self._bytes = 0
        self._disk = ClipCache(media.cache_folder, media.cache_gb, media.decode_seconds) if media.cache_folder else None
        self.chat_template_kwargs = dict(chat_template_kwargs or {})
        self._cache: OrderedDict[str, EncodedPrompt] = OrderedDict()

    def __call__(self, messages: Sequence[Mapping[str, Any]]) -> EncodedPrompt:
        """Encode ``messages`` with the generation prompt appended.

        Args:
            messages: chat messages whose content is text or a list of ``{"type": "video"|"audio"|"text", …}`` items;
                video and audio items hold a path or a clip's bytes.

        Raises:
            MediaError: a file is missing, cannot be decoded or is too long; the message names it.
            PromptTextError: a text contains a special token or a media placeholder that no clip has replaced.
        """
        key = json.dumps(messages, sort_keys=True, default=repr)  # repr: a clip's bytes by their digest
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        encoded = self._encode(messages)
        if self.cache_size > 0:
            self._cache[key] = encoded
            self._bytes += encoded.nbytes
            while len(self._cache) > self.cache_size or (self._bytes > self._limit and len(self._cache) > 1):
                self._bytes -= self._cache.popitem(last=False)[1].nbytes
        return encoded

    def _encode(self, messages: Sequence[Mapping[str, Any]]) -> EncodedPrompt:
        for text in texts(messages):
            check_text(text, "the prompt", tokens=self.processor.tokenizer.all_special_tokens)
        videos, audios = self._load(messages)
        text = self.processor.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True, **self.chat_template_kwargs
        )
        kwargs = self.processor_kwargs(videos[0].fps if videos else None)
        frames = [video.frames_TCHW for video in videos]
        output = self.processor(text=[text], videos=frames or None, audio=audios or None, return_tensors="pt", **kwargs)
        inputs = {name: torch.as_tensor(value) for name, value in output.items()}
        prompt_ids = inputs.pop("input_ids")[0].tolist()
        inputs.pop("attention_mask")
        return EncodedPrompt(prompt_ids, trim_audio(inputs), frames, audios, kwargs)

    def processor_kwargs(self, fps: float | None) -> dict[str, Any]:
        """What the processor is called with, here and by vLLM; ``fps`` is the rate at which frames were kept."""
        media = asdict(self.media)
        kwargs = {name: media[name] for name in ("min_pixels", "max_pixels", "sampling_rate", "use_audio_in_video")}
        if fps is not None:
            kwargs["fps"] = round(fps, 4)
        return kwargs

    def _load(self, messages: Sequence[Mapping[str, Any]]) -> tuple[list, list]:
        videos, audios = [], []
        for message in messages:
            content = message["content"]
            for item in content if isinstance(content, list) else []:
                if item.get("type") == "video":
                    videos.append(self._read_video(item["video"]))
                    if self.media.use_audio_in_video:
                        audios.append(self._read_audio(item["video"]))
                elif item.get("type") == "audio":
                    audios.append(self._read_audio(item["audio"]))
        if len({video.fps for video in videos}) > 1:
            raise ValueError("videos of different frame rates in one prompt are not supported")
        return videos, audios

    def _read_video(self, source: ClipSource) -> Video:
        if self._disk:
            return self._disk.video(source, self.media.fps, self.media.max_frames)
        return read_video(source, self.media.fps, self.media.max_frames, self.media.decode_seconds)

    def _read_audio(self, source: ClipSource) -> np.ndarray:
        if self._disk:
            audio = self._disk.audio(source, self.media.sampling_rate, self.media.max_seconds)
        else:
            audio = read_audio(source, self.media.sampling_rate, self.media.max_seconds, self.media.decode_seconds)
        window = self.processor.feature_extractor.n_samples
        if len(audio) > window:
            raise MediaError(
                f"{source} is {len(audio) / self.media.sampling_rate:.1f} s long, but the model's processor takes at "
                f"most {window / self.media.sampling_rate:.1f} s and cuts the rest. Shorten the clip or drop its row."
            )
        return audio


def texts(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The texts of chat messages, without their media items."""
    for message in messages:
        content = message["content"]
        if isinstance(content, str):
            yield content
        else:
            yield from (item["text"] for item in content if item.get("type") == "text")


def trim_audio(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Cut the mel features to the longest audio: the processor pads every clip to the extractor's full length.

    The audio tower selects frames by ``feature_attention_mask``, so the cut changes no number.
    """
    mask = inputs.get("feature_attention_mask")
    if mask is None:
        return inputs
    longest = int(mask.sum(-1).max())
    return inputs | {
        "feature_attention_mask": mask[:, :longest].contiguous(),
        "input_features": inputs["input_features"][:, :, :longest].contiguous(),
    }
