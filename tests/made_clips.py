"""Clips as phones, browsers and recorders make them, written by the tests themselves."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

MS = Fraction(1, 1000)
RATE = 16_000


def film(
    path: Path,
    times: Sequence[float],
    sounds: Sequence[Sequence[tuple[float, float]]] = (),
    images: Sequence[np.ndarray] | None = None,
    codec: str = "mpeg4",
    default: int | None = None,
) -> Path:
    """A film with a frame at each time (seconds): image k, or grey of 4 k; and sound tracks.

    Args:
        sounds: of each track the pieces of a tone of 400 Hz, as (start, end) in seconds, a multiple of 0.064.
        default: the sound track that the file marks as default; None: as the format does it.
    """
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=1000)
        images = images or [np.full((64, 64, 3), 4 * (k % 60), np.uint8) for k in range(len(times))]
        video.height, video.width = images[0].shape[:2]
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        video.time_base = video.codec_context.time_base = MS
        tracks = [container.add_stream("aac", rate=RATE, layout="mono") for _ in sounds]
        for place, track in enumerate(tracks):
            if default is not None:
                track.disposition = Disposition.default if place == default else Disposition(0)
            track.codec_context.time_base = Fraction(1, RATE)
        for time, image in zip(times, images, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(1000 * time), MS
            container.mux(video.encode(frame))
        container.mux(video.encode())
        for track, pieces in zip(tracks, sounds, strict=True):
            for start, end in pieces:
                for at in range(round(start * RATE), round(end * RATE), 1024):
                    wave = 0.3 * np.sin(2 * np.pi * 400 * np.arange(at, at + 1024) / RATE)
                    frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
                    frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
                    container.mux(track.encode(frame))
            container.mux(track.encode())
    return path


def trim(path: Path, seconds: float) -> Path:
    """Let the (first) video track of an mp4 of :func:`film` start later: its edit list leaves out what comes before."""
    data = bytearray(path.read_bytes())
    place = data.index(b"elst") + 12
    duration, start = struct.unpack_from(">Ii", data, place)  # in 1/1000 s, and in the track's own unit
    (unit,) = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)
    struct.pack_into(">Ii", data, place, round(duration - 1000 * seconds), round(start + unit * seconds))
    path.write_bytes(data)
    return path


def turn(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write a display matrix into the (only) video track of an mp4: x' = a x + c y, y' = b x + d y."""
    data = bytearray(path.read_bytes())
    upright = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    place = data.index(upright, data.index(b"tkhd"))
    one = 65536
    data[place : place + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path
