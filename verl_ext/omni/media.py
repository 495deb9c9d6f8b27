"""Decode a clip: the one code path for SFT, RL and evaluation. PyAV only; no torchvision, torchcodec or ffmpeg binary.

A video becomes ``uint8 (T, 3, H, W)`` frames sampled evenly in time, audio becomes ``float32 (samples,)`` mono.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch

from verl_ext.omni.demux import MediaError, decode, open_clip

__all__ = ["MediaError", "Video", "read_audio", "read_video", "sample_indices"]


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


def read_video(path: str | Path, fps: float = 2.0, max_frames: int = 64) -> Video:
    """Decode ``path`` and keep about ``fps`` frames a second.

    Raises:
        MediaError: the file is missing, has no video stream, is cut off, or cannot be decoded.
    """
    with open_clip(path, "video") as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        frames = list(decode(container, stream, path))
        source_fps = float(stream.average_rate or fps)
    indices = sample_indices(len(frames), source_fps, fps, max_frames)
    frames_THWC = np.stack([frames[i].to_ndarray(format="rgb24") for i in indices])
    duration = len(frames) / source_fps
    return Video(torch.from_numpy(frames_THWC).permute(0, 3, 1, 2).contiguous(), fps=len(indices) / duration)


def read_audio(path: str | Path, sampling_rate: int = 16_000, max_seconds: float = 300.0) -> np.ndarray:
    """Decode the first audio stream of ``path`` (a wav, or the track of a video) to mono float32 at ``sampling_rate``.

    Raises:
        MediaError: the file is missing, has no audio stream, is cut off, cannot be decoded, or is longer than
            ``max_seconds`` (nothing is cut silently).
    """
    with open_clip(path, "audio") as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=sampling_rate)
        frames = decode(container, container.streams.audio[0], path)
        blocks = [block.to_ndarray()[0] for frame in frames for block in resampler.resample(frame)]
        blocks += [block.to_ndarray()[0] for block in resampler.resample(None)]
    samples = np.concatenate(blocks).astype(np.float32)
    if len(samples) > max_seconds * sampling_rate:
        raise MediaError(
            f"{path} is {len(samples) / sampling_rate:.1f} s long, over the limit of {max_seconds:.1f} s "
            "(data.media.max_seconds). Raise the limit or cut the clip."
        )
    return samples
