"""Decode a clip: the one code path for SFT, RL and evaluation. PyAV only; no torchvision, torchcodec or ffmpeg binary.

A video becomes ``uint8 (T, 3, H, W)`` frames sampled evenly in time, audio becomes ``float32 (samples,)`` mono. Both
are placed by their time stamps, on one clock that starts with the clip (:mod:`verl_ext.data.clock`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import torch

from verl_ext.data.bounded import SECONDS, bounded
from verl_ext.data.clock import sample_indices, timeline
from verl_ext.data.demux import ClipSource, MediaError, decode, fetch, open_clip, start_of, track_of
from verl_ext.data.picture import check_shape, turn_of, turned
from verl_ext.data.sound import check_length, resample

__all__ = ["MediaError", "Video", "read_audio", "read_video", "sample_indices"]

FEW_PIXELS = 2**18
"""A clip of no more pixels in all its frames is decoded by one thread, before others would have started."""
_MOST_FRAMES = 10**6
"""A header that speaks of more is not believed before they are counted."""


@dataclass(frozen=True)
class Video:
    """Decoded frames and the rate at which they were sampled.

    Attributes:
        frames_TCHW: uint8, RGB.
        fps: sampled frames per second of clip time, which M-RoPE turns into temporal positions.
    """

    frames_TCHW: torch.Tensor
    fps: float


def read_video(source: ClipSource, fps: float = 2.0, max_frames: int = 64, seconds: float = SECONDS) -> Video:
    """Decode ``source`` and keep about ``fps`` frames per second; only kept frames are converted and held.

    Frames are turned as their display matrix says. A frame of another size than the first is scaled to it.

    Raises:
        MediaError: the file is missing, has no video stream, is cut off, cannot be decoded, has a shape that the model
            does not take, or was not read within ``seconds``.
    """
    return bounded(lambda: _read_video(source, fps, max_frames), source, seconds)


def _read_video(source: ClipSource, fps: float, max_frames: int) -> Video:
    source = fetch(source)  # once, though it may be opened twice
    with open_clip(source, "video") as container:
        stream, zero = track_of(container, "video"), start_of(container)
        said, rate = _announced(stream)
        indices = _guess(container, said, rate, zero, fps, max_frames)
        kept, seen = _decode_at(container, indices, source)
        times = timeline(seen.seconds(stream.time_base, zero), rate, seen.last(stream.time_base), otherwise=fps)
    chosen = times.choose(fps, max_frames)
    if not np.array_equal(chosen, indices):
        # The header says nothing or something else (Matroska, an edit list, a variable rate): now that the times are
        # known, once more.
        del kept
        with open_clip(source, "video") as container:
            kept, _ = _decode_at(container, chosen, source)
    return Video(torch.from_numpy(kept), fps=len(chosen) / times.seconds)


def _announced(stream: av.VideoStream) -> tuple[int, float | None]:
    """Number of frames and frames per second as the file's header has them; 0 and None where it has not."""
    return stream.frames, float(stream.average_rate) if stream.average_rate else None


def _guess(
    container: av.container.InputContainer, said: int, rate: float | None, zero: float, fps: float, max_frames: int
) -> np.ndarray:
    """The frames that will be kept if the header is right, so that most clips are decoded once."""
    stream = track_of(container, "video")
    said = said or round((container.duration or 0) / av.time_base * (rate or 0))
    if not 0 < said <= _MOST_FRAMES:
        return np.zeros(0, int)
    first = float(stream.start_time * stream.time_base) - zero if stream.start_time is not None else 0.0
    if not first:
        return sample_indices(said, rate or fps, fps, max_frames)
    return timeline(first + np.arange(said) / (rate or fps), rate, otherwise=fps).choose(fps, max_frames)


@dataclass
class _Seen:
    """Time stamps of all frames of a stream and how long the last is shown, in the stream's ticks."""

    stamps: list[int | None]
    duration: int

    def seconds(self, tick: Fraction, zero: float) -> list[float | None]:
        return [None if stamp is None else stamp * float(tick) - zero for stamp in self.stamps]

    def last(self, tick: Fraction) -> float:
        return self.duration * float(tick)


def _decode_at(
    container: av.container.InputContainer, indices: np.ndarray, source: ClipSource
) -> tuple[np.ndarray | None, _Seen]:
    """The frames of these indices, uint8 (len(indices), 3, H, W), and the times of all; the others are dropped at once.

    All are decoded: a clip that is damaged behind the last index is damaged.
    """
    places, kept, seen = defaultdict(list), None, _Seen([], 0)
    for place, index in enumerate(indices.tolist()):
        places[index].append(place)
    stream = track_of(container, "video")
    # A stream that was cut off may have no size.
    alone = 0 < stream.frames * getattr(stream, "width", 0) * getattr(stream, "height", 0) <= FEW_PIXELS
    stream.thread_type = "NONE" if alone else "AUTO"
    for number, frame in enumerate(decode(container, stream, source)):
        seen.stamps.append(frame.pts)
        seen.duration = frame.duration or 0
        if number == 0:
            turn, (height, width) = turn_of(frame), (frame.height, frame.width)
            check_shape(height, width, source)
        if number not in places:
            continue
        size = {} if (frame.height, frame.width) == (height, width) else {"height": height, "width": width}
        pixels = turned(frame.to_ndarray(format="rgb24", threads=1 if alone else 0, **size), turn).transpose(2, 0, 1)
        if kept is None:
            kept = np.empty((len(indices), *pixels.shape), np.uint8)
        for place in places[number]:
            kept[place] = pixels
    return kept, seen


def read_audio(
    source: ClipSource, sampling_rate: int = 16_000, max_seconds: float = 300.0, seconds: float = SECONDS
) -> np.ndarray:
    """Decode the sound of ``source`` (a wav, or the track of a video) to mono float32 at ``sampling_rate``.

    Sample 0 is the start of the clip's clock. Silence stands where the file has no sound: before a late start, in gaps.

    Raises:
        MediaError: the file is missing, has no audio stream, is cut off, cannot be decoded or mixed down (a sound that
            changes its layout in the middle), is too short for a token, is longer than ``max_seconds`` (nothing is cut
            silently), or was not read within ``seconds``.
    """
    return bounded(lambda: _read_audio(source, sampling_rate, max_seconds), source, seconds)


def _read_audio(source: ClipSource, sampling_rate: int, max_seconds: float) -> np.ndarray:
    blocks, number = [], 0
    with open_clip(source, "audio") as container:
        frames = decode(container, track_of(container, "audio"), source)
        for block in resample(frames, sampling_rate, source, start_of(container)):
            number += len(block)
            if number <= max_seconds * sampling_rate:
                blocks.append(block)
    if number > max_seconds * sampling_rate:
        raise MediaError(
            f"{source} is {number / sampling_rate:.1f} s long, over the limit of {max_seconds:.1f} s "
            "(data.media.max_seconds). Raise the limit or shorten the clip."
        )
    check_length(number, sampling_rate, source)
    return np.concatenate(blocks).astype(np.float32)
