"""How something is said: what carries the emotion of a made voice, whichever engine speaks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Style:
    """How something is said."""

    pitch: int
    """0–99, espeak-ng's scale; 50 is the speaker's usual pitch."""
    range: int
    """0–99, espeak-ng's scale: how far the pitch moves; 0 is monotone."""
    rate: int
    """Words a minute."""
    level: float
    """Root mean square of the speech, full scale = 1."""
    tremor: float = 0.0
    """Depth in [0, 1] of a 9 Hz tremor of the loudness."""
    rough: float = 0.0
    """0 is clean; above, the sound is driven into soft clipping."""
    ending: str = "."
    """Punctuation that espeak-ng turns into an intonation."""


STYLES: dict[str, Style] = {
    "happy": Style(pitch=72, range=85, rate=215, level=0.12),
    "sad": Style(pitch=22, range=12, rate=135, level=0.025),
    "angry": Style(pitch=42, range=60, rate=225, level=0.28, rough=6.0),
    "scared": Style(pitch=92, range=20, rate=235, level=0.06, tremor=0.85),
    "surprised": Style(pitch=82, range=99, rate=160, level=0.16, ending="?"),
    "disgusted": Style(pitch=4, range=45, rate=140, level=0.10),
    "neutral": Style(pitch=45, range=30, rate=175, level=0.07),
}
