"""What decoding a media file to its end finds: by training's rule of what is damaged, at little cost."""

from __future__ import annotations

import math
import wave
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import av
import numpy as np

from verl_ext.data.clock import timeline
from verl_ext.data.demux import MediaError, decode, open_clip, start_of, track_of, tracks_of
from verl_ext.data.picture import check_shape, upright_size
from verl_ext.data.sound import check_length, resample
from verl_ext.data.source import REMEDY

VERSION = 2
"""Raise it when the same file would give other facts: what is remembered is then found anew."""
SILENCE = -60.0
"""dBFS; speech in a quiet room peaks some 30 dB higher."""
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
    """Of the first frame, upright."""
    fps: float = 0.0
    """Frames per second of the clip, by their time stamps."""
    announced_fps: float = 0.0
    """Frames per second by the header; 0 where it does not say."""
    steady: bool = True
    """The frames come at the announced rate."""
    resized: int = 0
    """Frames of another size than the first."""
    tracks: str = ""
    """The tracks of one kind, where there are several of that kind."""
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
    channel_peak: float = 0.0
    """Loudest sample of any channel in dBFS; looked for where the mix is nearly silent."""
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
        stream, zero = track_of(container, "video"), start_of(container)
        # One process a core: threads would only get into each other's way. The loop filter smooths pixels, which
        # nobody looks at here, and raises nothing.
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"skip_loop_filter": "all"}
        announced = float(stream.average_rate or 0)
        seen = _Frames()
        seen.count(decode(container, stream, path))
        check_shape(seen.height, seen.width, path)
        tick = float(stream.time_base)
        stamps = [None if stamp is None else stamp * tick - zero for stamp in seen.stamps]
        times = timeline(stamps, announced or None, seen.duration * tick)
        return replace(
            facts,
            frames=len(stamps),
            damaged=seen.damaged,
            height=seen.height,
            width=seen.width,
            fps=times.fps,
            announced_fps=announced,
            steady=times.steady,
            resized=seen.resized,
            tracks=_tracks(container, "video", facts.tracks),
        )


@dataclass(slots=True)
class _Frames:
    """Frames of a stream: their time stamps in its ticks, how long the last is shown, the first one's upright size."""

    stamps: list[int | None] = field(default_factory=list)
    duration: int = 0
    height: int = 0
    width: int = 0
    damaged: int = 0
    """Frames that the decoder patched."""
    resized: int = 0

    def count(self, frames: Iterable[av.VideoFrame]) -> None:
        first = (0, 0)
        for frame in frames:
            if not self.stamps:
                first = frame.height, frame.width
                self.height, self.width = upright_size(frame)
            self.stamps.append(frame.pts)
            self.duration = frame.duration or 0
            self.damaged += frame.is_corrupt
            self.resized += (frame.height, frame.width) != first


def _tracks(container: av.container.InputContainer, kind: Literal["video", "audio"], before: str) -> str:
    """What a note says about several tracks; `before` is what it says about the other kind."""
    tracks, used = tracks_of(container, kind), track_of(container, kind)
    if len(tracks) < 2:
        return before
    named = ", ".join(f"{_track(stream)}{' (used)' if stream.index == used.index else ''}" for stream in tracks)
    return f"{before}; {len(tracks)} {kind} tracks: {named}".removeprefix("; ")


def _track(stream: av.stream.Stream) -> str:
    words = [stream.metadata.get("language"), stream.metadata.get("title") or stream.metadata.get("handler_name")]
    return " ".join([f"stream {stream.index}", *(repr(word) for word in words if word and word != "und")])


def _audio(path: Path, facts: Facts, rate: int) -> Facts:
    with open_clip(path, "audio") as container:
        stream = track_of(container, "audio")
        samples, peak, damaged = 0, 0.0, facts.damaged

        def frames() -> Iterator[av.AudioFrame]:
            nonlocal damaged
            for frame in decode(container, stream, path):
                damaged += frame.is_corrupt
                yield frame

        for block in resample(frames(), rate, path, start_of(container)):
            samples += len(block)
            peak = max(peak, float(np.abs(block).max(initial=0)))
        check_length(samples, rate, path)
        return replace(
            facts,
            rate=stream.rate or 0,
            samples=samples,
            heard_rate=rate,
            damaged=damaged,
            peak=_dbfs(peak),
            channel_peak=_dbfs(_channel_peak(path)) if _dbfs(peak) < SILENCE else _dbfs(peak),
            announced=_announced(path),
            tracks=_tracks(container, "audio", facts.tracks),
        )


def _dbfs(peak: float) -> float:
    return 20 * math.log10(peak) if peak else _QUIETEST


def _channel_peak(path: Path) -> float:
    """The loudest sample of any channel, before they are mixed."""
    peak = 0.0
    with open_clip(path, "audio") as container:
        stream = track_of(container, "audio")
        resampler = av.AudioResampler(format="flt")
        for frame in (*decode(container, stream, path), None):
            for block in resampler.resample(frame):
                peak = max(peak, float(np.abs(block.to_ndarray()).max(initial=0)))
    return peak


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
    if error.kind in ("bad_shape", "too_short", "bad_times"):
        return str(error).removesuffix(f" {REMEDY}").removesuffix(".")
    cause = error.__cause__
    return str(getattr(cause, "strerror", None) or cause or "")
