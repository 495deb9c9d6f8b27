"""When the frames of a clip are shown, and which of them to keep: by time, whatever rate a file announces.

A clip's clock starts (0 s) where its picture or its sound starts, whichever is first; both are placed on this clock.
Pure numbers: `data_prep check` uses the same rules without decoding a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Timeline:
    """The frames of a clip on its clock.

    Attributes:
        starts_N: seconds at which each frame is first shown, never decreasing.
        usual: seconds from one frame to the next, the median.
        fps: frames per second of the clip, from its start to the end of its last frame.
        steady: every frame is within half a frame of where a constant rate puts it, so that index and time agree.
    """

    starts_N: np.ndarray
    usual: float
    fps: float
    steady: bool

    @property
    def seconds(self) -> float:
        """Length of the clip's picture, from 0 to the end of the last frame."""
        return len(self.starts_N) / self.fps

    def choose(self, fps: float, max_frames: int, multiple: int = 2) -> np.ndarray:
        """Indices of the frames to keep: those that are shown at times which are evenly spread over the clip.

        The number is that of :func:`sample_indices`. A frame that is shown for long is kept several times.
        """
        indices = sample_indices(len(self.starts_N), self.fps, fps, max_frames, multiple)
        if self.steady:
            return indices
        # The end of the last target's frame is the end of the clip; half a frame later: the nearest, not the last one.
        targets = np.linspace(0, self.seconds - self.usual, len(indices)) + self.usual / 2
        shown = np.searchsorted(self.starts_N, targets, side="right") - 1
        return np.clip(shown, 0, len(self.starts_N) - 1)


def sample_indices(num_frames: int, source_fps: float, fps: float, max_frames: int, multiple: int = 2) -> np.ndarray:
    """Which frames of a constant rate to keep: evenly spread, about ``fps`` per second, at most ``max_frames``.

    Their number is a multiple of ``multiple``: Qwen2.5-Omni's vision tower merges two frames into one temporal patch. A
    clip with a single frame repeats it.
    """
    wanted = round(num_frames / source_fps * fps / multiple) * multiple
    wanted = max(multiple, min(wanted, max_frames // multiple * multiple))
    return _spread(num_frames, wanted).copy()


@lru_cache(1024)
def _spread(num_frames: int, wanted: int) -> np.ndarray:
    return np.linspace(0, num_frames - 1, wanted).round().astype(int)


def timeline(
    times: Sequence[float | None], announced: float | None, last: float = 0.0, otherwise: float = 2.0
) -> Timeline:
    """The timeline of decoded frames.

    Args:
        times: seconds of each frame (at least one) on the clip's clock; None where the file has no time stamp.
        announced: frames per second by the file's header, if any.
        last: seconds for which the last frame is shown, as far as the file says. A shorter time than the usual one is
            not believed: recorders of browsers write a tick of their clock.
        otherwise: frames per second of a file that has neither time stamps nor a rate.
    """
    number = len(times)
    if announced and None not in times and _follows(np.asarray(times, float), announced, last):
        return _even(number, announced)
    known = [index for index, time in enumerate(times) if time is not None]
    if not known:
        return _even(number, announced or otherwise)
    starts = np.interp(np.arange(number), known, [times[index] for index in known])
    starts = np.maximum.accumulate(np.maximum(starts, 0.0))
    steps = np.diff(starts)
    steps = steps[steps > 0]
    usual = float(np.median(steps)) if len(steps) else 1 / announced if announced else last or 1 / otherwise
    rate = announced or 1 / usual
    if _follows(starts, rate, last):
        return _even(number, rate)
    seconds = float(starts[-1]) + max(last, usual)
    return Timeline(starts, usual, number / seconds, steady=False)


def _follows(starts_N: np.ndarray, rate: float, last: float) -> bool:
    apart = np.abs(starts_N - np.arange(len(starts_N)) / rate).max()
    return bool(apart <= 0.5 / rate and last <= 1.5 / rate)


def _even(number: int, rate: float) -> Timeline:
    return Timeline(np.arange(number) / rate, 1 / rate, rate, steady=True)
