"""Decoded sound on a clip's clock: mixed down to mono, resampled, with silence for a late start and for gaps.

PyAV only, so that `data_prep` checks clips without torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import av
import numpy as np

from verl_ext.data.source import REMEDY, ClipSource, MediaError

MIN_SECONDS = 0.025
"""The shortest sound that makes a token: 400 samples at 16 kHz, one window of the mel spectrum."""
_START = 0.02  # seconds by which a sound may start later than the clip without silence being put in front: half a token
_GAP = 0.1  # seconds by which time stamps and samples may differ later; the stamps of live recordings jitter by less
_RESTART = 1.0  # seconds back: not an overlap, but time stamps that start anew; the sound goes on
_LONGEST_GAP = 86_400.0  # seconds
_PIECE = 2**20  # samples of silence at a time


def resample(
    frames: Iterable[av.AudioFrame], rate: int, source: ClipSource, zero: float | None = None
) -> Iterator[np.ndarray]:
    """The sound of decoded frames, mixed down to mono, in blocks of float32 (samples,) at ``rate`` Hz.

    Args:
        frames: in their order.
        rate: in Hz.
        source: for messages.
        zero: time stamp, in seconds, at which the clip starts: the first sample is that of this time. Silence fills
            what is missing before and between frames, and of sounds that overlap the first one is kept. None: time
            stamps are ignored.

    Raises:
        MediaError: the sound changes its layout in the middle, has none that can be mixed down, or its time stamps jump
            by over a day.
    """
    track = _Track(rate, source)
    try:
        for frame in frames:
            if zero is not None and frame.pts is not None:
                yield from track.move_to(float(frame.pts * frame.time_base) - zero)
            yield from track.add(frame)
        yield from track.flush()
    except MediaError:
        raise
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"cannot resample the sound of {source}: {error}. {REMEDY}", "truncated") from error


class _Track:
    """Output so far: `made` samples of it, `at` seconds of the input."""

    def __init__(self, rate: int, source: ClipSource) -> None:
        self.rate, self.source = rate, source
        self.made, self.at, self.shift = 0, 0.0, 0.0
        self.begun = False
        self.drop = 0  # samples of an overlap, still to be left out
        self.resampler = self._new()

    def _new(self) -> av.AudioResampler:
        return av.AudioResampler(format="flt", layout="mono", rate=self.rate)

    def move_to(self, time: float) -> Iterator[np.ndarray]:
        """Prepare for a frame of this time; yields the silence that goes before it."""
        jump = time + self.shift - self.at
        if not self.begun and jump < _START:
            self.shift -= jump  # starts with the clip, as nearly as anyone hears
        elif jump < -_RESTART:
            self.shift -= jump
        elif jump > (_GAP if self.begun else _START) or jump < -_GAP:
            if jump > _LONGEST_GAP:
                raise MediaError(
                    f"the time stamps of the sound of {self.source} jump by {jump:.0f} s. {REMEDY}", "bad_times"
                )
            yield from self.flush()
            self.resampler = self._new()
            self.at += jump
            missing = round(self.at * self.rate) - self.made
            self.drop = max(0, -missing)
            for start in range(0, missing, _PIECE):
                yield from self._out(np.zeros(min(_PIECE, missing - start), np.float32))

    def add(self, frame: av.AudioFrame) -> Iterator[np.ndarray]:
        self.begun = True
        self.at += frame.samples / frame.sample_rate
        for block in self.resampler.resample(frame):
            yield from self._out(block.to_ndarray()[0])

    def flush(self) -> Iterator[np.ndarray]:
        if self.begun:
            for block in self.resampler.resample(None):
                yield from self._out(block.to_ndarray()[0])

    def _out(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        left_out = min(self.drop, len(samples))
        self.drop -= left_out
        self.made += len(samples) - left_out
        yield samples[left_out:]


def check_length(samples: int, rate: int, source: ClipSource) -> None:
    """Refuse a sound that gives the model no token.

    Raises:
        MediaError: it is shorter than :data:`MIN_SECONDS`.
    """
    if samples < round(MIN_SECONDS * rate):
        raise MediaError(
            f"the sound of {source} has {samples} samples at {rate} Hz, too few for one audio token: at least "
            f"{round(MIN_SECONDS * rate)} ({1000 * MIN_SECONDS:g} ms) are needed. {REMEDY}",
            "too_short",
        )
