"""Decode a clip: the one code path for SFT, RL and evaluation. PyAV only; no torchvision, torchcodec or ffmpeg binary.

A video becomes ``uint8 (T, 3, H, W)`` frames sampled evenly in time, audio becomes ``float32 (samples,)`` mono.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import av
import numpy as np
import torch

from verl_ext.data.demux import ClipSource, MediaError, decode, fetch, open_clip, resample

__all__ = ["MediaError", "Video", "read_audio", "read_video", "sample_indices"]

FEW_PIXELS = 2**18
"""A clip of no more pixels in all its frames is decoded by one thread, before others would have started."""


@dataclass(frozen=True)
class Video:
    """Decoded frames and the rate at which they were sampled.

    Attributes:
        frames_TCHW: uint8, RGB.
        fps: sampled frames per second of clip time, which M-RoPE turns into temporal positions.
    """

    frames_TCHW: torch.Tensor
    fps: float


def sample_indices(num_frames: int, source_fps: float, fps: float, max_frames: int, multiple: int = 2) -> np.ndarray:
    """Which frames to keep: evenly spread, about ``fps`` a second, at most ``max_frames``, a multiple of ``multiple``.

    Qwen2.5-Omni's vision tower merges two frames into one temporal patch, hence ``multiple=2``; a clip with a single
    frame repeats it.
    """
    wanted = round(num_frames / source_fps * fps / multiple) * multiple
    wanted = int(np.clip(wanted, multiple, max(multiple, max_frames // multiple * multiple)))
    return np.linspace(0, num_frames - 1, wanted).round().astype(int)


def read_video(source: ClipSource, fps: float = 2.0, max_frames: int = 64) -> Video:
    """Decode ``source`` and keep about ``fps`` frames a second; only kept frames are converted and held.

    Raises:
        MediaError: the file is missing, has no video stream, is cut off, or cannot be decoded.
    """
    source = fetch(source)  # once, though it may be opened twice
    with open_clip(source, "video") as container:
        said, source_fps = _announced(container.streams.video[0])
        source_fps = source_fps or fps
        indices = sample_indices(said, source_fps, fps, max_frames) if said else []
        kept, number = _decode_at(container, indices, source)
    if number != said:
        # The file says nothing or something else (Matroska, an edit list): now that the number is known, once more.
        indices = sample_indices(number, source_fps, fps, max_frames)
        with open_clip(source, "video") as container:
            kept, _ = _decode_at(container, indices, source)
    frames_TCHW = np.stack([kept[index] for index in indices])
    return Video(torch.from_numpy(frames_TCHW), fps=len(indices) / (number / source_fps))


def _announced(stream: av.VideoStream) -> tuple[int, float | None]:
    """Number of frames and frames per second as the file's header has them; 0 and None where it has not."""
    return stream.frames, float(stream.average_rate) if stream.average_rate else None


def _decode_at(
    container: av.container.InputContainer, indices: Iterable[int], source: ClipSource
) -> tuple[dict[int, np.ndarray], int]:
    """The frames of these indices, each uint8 (3, H, W), and the number of all; the others are dropped at once.

    All are decoded: a clip that is damaged behind the last index is damaged.
    """
    wanted, kept, number = {int(index) for index in indices}, {}, 0
    stream = container.streams.video[0]
    # A stream that was cut off may have no size.
    alone = 0 < stream.frames * getattr(stream, "width", 0) * getattr(stream, "height", 0) <= FEW_PIXELS
    stream.thread_type = "NONE" if alone else "AUTO"
    for number, frame in enumerate(decode(container, stream, source), start=1):
        if number - 1 in wanted:
            pixels = frame.to_ndarray(format="rgb24", threads=1 if alone else 0)
            kept[number - 1] = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return kept, number


def read_audio(source: ClipSource, sampling_rate: int = 16_000, max_seconds: float = 300.0) -> np.ndarray:
    """Decode the first audio stream of ``source`` (a wav, or the track of a video) to mono float32, ``sampling_rate``.

    Raises:
        MediaError: the file is missing, has no audio stream, is cut off, cannot be decoded or mixed down (a sound that
            changes its layout in the middle), or is longer than ``max_seconds`` (nothing is cut silently).
    """
    with open_clip(source, "audio") as container:
        frames = decode(container, container.streams.audio[0], source)
        samples = np.concatenate([*resample(frames, sampling_rate, source)]).astype(np.float32)
    if len(samples) > max_seconds * sampling_rate:
        raise MediaError(
            f"{source} is {len(samples) / sampling_rate:.1f} s long, over the limit of {max_seconds:.1f} s "
            "(data.media.max_seconds). Raise the limit or shorten the clip."
        )
    return samples
