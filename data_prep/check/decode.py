"""What decoding a media file to its end finds: by training's rule of what is damaged, at little cost."""

from __future__ import annotations

import math
import wave
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np

from verl_ext.data.demux import MediaError, decode, open_clip, resample

VERSION = 1
"""Raise it when the same file would give other facts: what is remembered is then found anew."""
_QUIETEST = -200.0  # dBFS of a sound that is all zeros; JSON has no infinity


@dataclass(frozen=True, slots=True)
class Facts:
    """What is in a file, whatever a user's limits are; zeros where it was not found or not looked for."""

    fault: str = ""
    """A kind of `verdicts.KINDS`; "" for a file that decodes as training decodes it."""
    detail: str = ""
    """What the decoder said."""
    frames: int = 0
    height: int = 0
    width: int = 0
    fps: float = 0.0
    """Frames a second by the header."""
    damaged: int = 0
    """Frames and pieces of sound that the decoder had to patch."""
    rate: int = 0
    """Sampling rate of the sound in Hz."""
    samples: int = 0
    """Mono samples after resampling to `heard_rate`."""
    heard_rate: int = 0
    """Hz that training resamples to."""
    peak: float = 0.0
    """Loudest sample in dBFS, as training hears it."""
    announced: float = 0.0
    """Seconds of sound by a wav's header; 0 where it does not say."""

    @property
    def video_seconds(self) -> float:
        """Length of the picture; 0 where the header has no frame rate."""
        return self.frames / self.fps if self.fps else 0.0

    @property
    def audio_seconds(self) -> float:
        """Length of the sound."""
        return self.samples / self.heard_rate if self.heard_rate else 0.0


Inspect = Callable[[Path, str, int], Facts]
"""(path, what of it: "video", "audio" or "both", sampling rate in Hz) → facts."""


def inspect(path: Path, want: str, rate: int) -> Facts:
    """Decode the tracks that are wanted from first to last frame; sound is resampled to `rate` Hz, as in training."""
    facts = Facts()
    try:
        if not path.stat().st_size:
            return Facts("empty_file")
        if want in ("video", "both"):
            facts = _video(path, facts)
        if want in ("audio", "both"):
            facts = _audio(path, facts, rate)
    except MediaError as error:
        return replace(facts, fault=error.kind, detail=_reason(error))
    except OSError as error:
        return replace(facts, fault="unreadable", detail=error.strerror or str(error))
    return facts


def _video(path: Path, facts: Facts) -> Facts:
    with open_clip(path, "video") as container:
        stream = container.streams.video[0]
        # One process a core: threads would only get into each other's way. The loop filter smooths pixels, which
        # nobody looks at here, and raises nothing.
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"skip_loop_filter": "all"}
        frames, damaged = _count(decode(container, stream, path))
        rate = stream.average_rate
        return replace(
            facts, frames=frames, damaged=damaged, height=stream.height, width=stream.width, fps=float(rate or 0)
        )


def _count(frames: Iterable[av.VideoFrame]) -> tuple[int, int]:
    """Number of frames and of those that the decoder patched."""
    number = damaged = 0
    for frame in frames:
        number += 1
        damaged += frame.is_corrupt
    return number, damaged


def _audio(path: Path, facts: Facts, rate: int) -> Facts:
    with open_clip(path, "audio") as container:
        stream = container.streams.audio[0]
        samples, peak, damaged = 0, 0.0, facts.damaged

        def frames() -> Iterator[av.AudioFrame]:
            nonlocal damaged
            for frame in decode(container, stream, path):
                damaged += frame.is_corrupt
                yield frame

        for block in resample(frames(), rate, path):
            samples += len(block)
            peak = max(peak, float(np.abs(block).max(initial=0)))
        return replace(
            facts,
            rate=stream.rate or 0,
            samples=samples,
            heard_rate=rate,
            damaged=damaged,
            peak=20 * math.log10(peak) if peak else _QUIETEST,
            announced=_announced(path),
        )


def _announced(path: Path) -> float:
    """Seconds that a wav's header speaks of, which FFmpeg replaces by what is there; 0 for any other file."""
    if path.suffix.lower() != ".wav":
        return 0.0
    try:
        with wave.open(str(path)) as file:
            size = file.getnframes() * file.getsampwidth() * file.getnchannels()
            # A writer that streams does not know the length and puts the largest number.
            return 0.0 if size >= 0x7FFFFF00 else file.getnframes() / file.getframerate()
    except (wave.Error, EOFError, OSError, ZeroDivisionError):
        return 0.0


def _reason(error: MediaError) -> str:
    cause = error.__cause__
    return str(getattr(cause, "strerror", None) or cause or "")
