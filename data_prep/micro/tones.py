"""A tone synthesiser for machines without espeak-ng: a buzz through two formants, one syllable a vowel group.

It is not intelligible; pitch, range, rate and the intonation of the ending are those of the style, so the voice still
carries its emotion, and different words still sound different.
"""

from __future__ import annotations

import re

import numpy as np

from data_prep.micro.style import Style

_RATE = 16_000
_FORMANTS = {"a": (750, 1200), "e": (530, 1850), "i": (320, 2250), "o": (480, 900), "u": (330, 1100), "y": (300, 2000)}
_SYLLABLES_PER_WORD = 1.4  # converts words a minute into syllables


def sing(text: str, style: Style) -> np.ndarray:
    """Float samples at 16 kHz, peak about 1."""
    words = re.findall(r"[a-z]+", text.lower()) or ["a"]
    vowels = [(re.findall(r"[aeiouy]+", word) or ["e"]) for word in words]
    length = 60 / (style.rate * _SYLLABLES_PER_WORD)  # seconds a syllable
    count = sum(len(groups) for groups in vowels)
    pieces, place = [], 0
    for groups in vowels:
        for group in groups:
            position = place / max(count - 1, 1)
            pieces.append(_syllable(group[0], _pitch(style, place, position), length))
            place += 1
        pieces.append(np.zeros(round(0.15 * length * _RATE)))
    return np.concatenate(pieces).astype(np.float32)


def _pitch(style: Style, place: int, position: float) -> float:
    """Hz: falls over the sentence (rises with a question), up and down from syllable to syllable."""
    base = 70 * 4 ** (style.pitch / 99)  # two octaves
    swing = style.range / 99 * 0.35
    slope = (1 if style.ending == "?" else -0.6) * (position - 0.5)
    return base * 2 ** (swing * ((1 if place % 2 else -1) * 0.5 + 1.5 * slope))


def _syllable(vowel: str, pitch: float, length: float) -> np.ndarray:
    time = np.arange(round(length * _RATE)) / _RATE
    sound = np.zeros_like(time)
    for harmonic in range(1, int(4000 / pitch) + 1):
        frequency = harmonic * pitch
        gain = sum(1 / (1 + ((frequency - formant) / 120) ** 2) for formant in _FORMANTS[vowel])
        sound += (gain + 0.05) / harmonic**0.5 * np.sin(2 * np.pi * frequency * time)
    envelope = np.minimum(1, np.minimum(time, time[-1] - time) / 0.015)
    return sound * envelope / max(float(np.abs(sound).max()), 1e-9)
