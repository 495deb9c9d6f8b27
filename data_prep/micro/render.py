"""One clip from its plan: speech, frames, files.

Imported by the workers, which fork for every utterance: it stays free of heavy imports, since a fork of a small
process is quick.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from data_prep.media import encode_mp4, encode_wav, pcm16
from data_prep.micro.face import Look, draw_face
from data_prep.micro.plan import ClipPlan
from data_prep.micro.voice import RATE, speak
from recipe.mer_r1.files.whole import write_whole

FPS = 2
SECONDS = 2.0  # 4 frames: two temporal patches of Qwen2.5-Omni, so 8 tokens at 56 × 56


def media_paths(folder: Path, name: str) -> tuple[Path, Path]:
    """Where a clip's mp4 and wav files lie."""
    return folder / "video" / f"{name}.mp4", folder / "audio" / f"{name}.wav"


def render(plan: ClipPlan, voice: str) -> tuple[bytes, bytes]:
    """The clip's mp4 and wav files."""
    rng = random.Random(plan.look_seed)
    look = Look.draw(rng)
    sound = speak(plan.subtitle, plan.cues["voice"], rng, voice, SECONDS)
    frames = [np.asarray(draw_face(plan.cues["face"], opening, look)) for opening in _openings(sound)]
    return encode_mp4(frames, FPS, sound, RATE), encode_wav(pcm16(sound), RATE)


def _openings(sound: np.ndarray) -> list[float]:
    """How far the mouth is open in each frame, in [0, 1]: the loudness at that moment beside the clip's loudest."""
    count = round(SECONDS * FPS)
    window = RATE // 10
    loudness = []
    for frame in range(count):
        middle = (frame + 0.5) / FPS * RATE
        piece = sound[int(middle - window / 2) : int(middle + window / 2)]
        loudness.append(float(np.sqrt(np.mean(piece**2))))
    top = max(loudness)
    return [round(each / top, 3) if top > 0 else 0.0 for each in loudness]


def render_batch(batch: list[tuple[Path, ClipPlan]], voice: str) -> int:
    """Render clips into their folders; returns how many."""
    for folder, plan in batch:
        for path, data in zip(media_paths(folder, plan.name), render(plan, voice), strict=True):
            write_whole(path, data)
    return len(batch)
