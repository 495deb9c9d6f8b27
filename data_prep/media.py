"""Writing clips with PyAV: mp4 (H.264 + AAC) and 16-bit WAV."""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np

# Bit-exact flags keep version strings and dates out of the files; one thread and no CPU-specific code keep x264's
# decisions the same on every machine.
_CONTAINER = {"fflags": "+bitexact"}
_H264 = {
    "preset": "veryfast",
    "crf": "18",
    "threads": "1",
    "x264-params": "cpu-independent=1:threads=1:log-level=none",
    "flags": "+bitexact",
}


def resample(sound: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Mono float samples (n,) at `rate` Hz as float32 samples at `to` Hz."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=to)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound, np.float32)[None], format="flt", layout="mono")
    frame.sample_rate = rate
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([out.to_ndarray()[0] for out in frames])


def pcm16(sound: np.ndarray) -> np.ndarray:
    """Float samples in [-1, 1] as 16-bit integers."""
    return np.round(np.clip(sound, -1, 1) * 32767).astype("<i2")


def encode_wav(samples: np.ndarray, rate: int) -> bytes:
    """A mono WAV file of 16-bit samples."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def encode_mp4(frames: Sequence[np.ndarray], fps: int, sound: np.ndarray, rate: int) -> bytes:
    """An mp4 file of RGB frames, each (height, width, 3) uint8, and a mono AAC track of the float samples."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options=_CONTAINER) as container:
        video = container.add_stream("libx264", rate=fps, options=_H264)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=rate, layout="mono", options={"flags": "+bitexact"})
        audio.bit_rate = 32_000
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode())
        whole = av.AudioFrame.from_ndarray(pcm16(sound)[None], format="s16", layout="mono")
        whole.sample_rate = rate
        cut = av.AudioResampler(format="fltp", layout="mono", rate=rate, frame_size=1024)
        # Counted in samples, from 0: the encoder dates its first packet 1024 samples earlier, and the muxer writes that
        # as an edit list, by which a decoder drops the encoder's run-up.
        audio.codec_context.time_base = Fraction(1, rate)
        start = 0
        for piece in (*cut.resample(whole), *cut.resample(None)):
            piece.pts, piece.time_base = start, Fraction(1, rate)
            start += piece.samples
            container.mux(audio.encode(piece))
        container.mux(audio.encode())
    return buffer.getvalue()
