"""A small clip made up on the spot: a bright bar that moves, and a tone."""

from __future__ import annotations

import numpy as np

from data_prep.media import encode_mp4, encode_wav, pcm16

SECONDS, FPS, RATE, SIDE = 2, 4, 16_000, 64


def made_mp4() -> bytes:
    """H.264 frames with the tone as AAC."""
    frames = []
    for number in range(SECONDS * FPS):
        frame = np.full((SIDE, SIDE, 3), 40, np.uint8)
        frame[:, number * SIDE // (SECONDS * FPS) :][:, :8] = (220, 180, 60)
        frames.append(frame)
    return encode_mp4(frames, FPS, _tone(), RATE)


def made_wav() -> bytes:
    """The tone as 16-bit PCM."""
    return encode_wav(pcm16(_tone()), RATE)


def _tone() -> np.ndarray:
    seconds = np.arange(SECONDS * RATE) / RATE
    return 0.5 * np.sin(2 * np.pi * 440 * seconds)
