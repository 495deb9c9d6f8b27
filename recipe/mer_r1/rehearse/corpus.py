"""Clips of real size and texts of real length, in the folders of MER-Caption+ and OV-MERD+, for `data_prep build`.

Pictures and tones are made up; what a clip costs (frames, pixels, seconds, tokens) is what the preset allows at most.

    python -m recipe.mer_r1.rehearse.corpus --out DIR [--frames 32 --fps 2 --pixels 100352 --sampling-rate 16000]
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data_prep.media import encode_mp4, encode_wav, pcm16

TRAIN_CLIPS, TEST_CLIPS, SFT_CLIPS = 8, 2, 4
SOUND_SECONDS = 5
PATCH = 28
"""Side in pixels of what becomes a token."""
_RATE = 4
"""Frames in the file for each frame that is kept."""
_LARGER = 2
"""A real frame is larger than the run's bound and is scaled down to it."""
_TEXTS = (
    (
        "I really thought we had more time.",
        "sad, disappointed, helpless",
        "The speaker looks down while talking and hardly blinks, and the corners of the mouth point downwards. The "
        "voice is low and slow, with a pause before the last words. The sentence says that a chance is gone, so the "
        "face, the voice and the words agree on a loss that cannot be changed.",
    ),
    (
        "You came all this way for me?",
        "surprised, happy, moved",
        "Both eyebrows rise at once and the mouth stays open after the question, which ends on a high tone. A smile "
        "follows within a second and the eyes become narrow. This order of signs points to something unexpected that "
        "turned out to be welcome.",
    ),
    (
        "Do not tell me to calm down again.",
        "angry, impatient",
        "A hard stare meets the other person and the jaw is tight between the words. Every word is stressed, the "
        "volume grows toward the end, and one hand cuts through the air. An order in the negative form makes clear "
        "that patience has run out.",
    ),
    (
        "What if they call while I am out?",
        "worried, anxious, nervous",
        "Fingers play with a sleeve during the whole clip, and the eyes move several times to the side where the "
        "phone lies. Speech is fast and slightly trembling. Because the question is about a thing that may happen "
        "later, fear of the future fits better than fear of something present.",
    ),
)
"""Subtitle, labels and reason."""


def frame_size(pixels: int) -> tuple[int, int]:
    """Height and width of the frames in the file: scaled to at most `pixels`, none of their tokens is lost."""
    tokens = max(1, pixels // PATCH**2)
    rows = next(rows for rows in range(int(tokens**0.5), 0, -1) if tokens % rows == 0)
    return _LARGER * rows * PATCH, _LARGER * tokens // rows * PATCH


def made_video(number: int, frames: int, fps: float, pixels: int) -> bytes:
    """An mp4 whose kept frames are `frames`, with a bright bar that moves and a colour of its own."""
    height, width = frame_size(pixels)
    total, rate = frames * _RATE, max(1, round(fps * _RATE))
    colour = np.array([(53 * number + shift) % 200 for shift in (30, 90, 150)], np.uint8)
    row = np.linspace(0, 55, width).astype(np.uint8)[None, :, None]
    images = []
    for at in range(total):
        image = np.broadcast_to(colour, (height, width, 3)) + row
        start = at * (width - width // 8) // total
        image[:, start : start + width // 8] = (230, 200, 80)
        images.append(image.astype(np.uint8))
    sampling_rate = 16_000
    return encode_mp4(images, rate, tone(number, total / rate, sampling_rate), sampling_rate)


def tone(number: int, seconds: float, rate: int) -> np.ndarray:
    """A tone (samples,) whose volume swells, another for each number."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 + 0.2 * np.sin(2 * np.pi * time)) * np.sin(2 * np.pi * (180 + 37 * number) * time)


def write(out: Path, frames: int, fps: float, pixels: int, sampling_rate: int) -> None:
    """Both corpora; the label file of the training corpus comes last."""
    test, train = out / "ovmerdplus-process", out / "mer2025-dataset"
    names = {test: [f"test_{number}" for number in range(TEST_CLIPS)]}
    names[train] = [f"train_{number}" for number in range(TRAIN_CLIPS)]
    number = 0
    for folder, clips in names.items():
        (folder / "video").mkdir(parents=True, exist_ok=True)
        (folder / "audio").mkdir(exist_ok=True)
        for name in clips:
            (folder / "video" / f"{name}.mp4").write_bytes(made_video(number, frames, fps, pixels))
            sound = pcm16(tone(number, SOUND_SECONDS, sampling_rate))
            (folder / "audio" / f"{name}.wav").write_bytes(encode_wav(sound, sampling_rate))
            number += 1
    _table(test / "subtitle_eng.csv", "sentence", _column(names[test], 0))
    _table(test / "ovlabel.csv", "openset", _column(names[test], 1))
    _table(train / "subtitle_chieng.csv", "english", _column(names[train], 0))
    _table(train / "track3_train_mercaptionplus.csv", "reason", _column(names[train], 2))
    _table(train / "track2_train_mercaptionplus.csv", "openset", _column(names[train], 1))


def _column(names: Sequence[str], place: int) -> list[tuple[str, str]]:
    texts = [_TEXTS[number % len(_TEXTS)][place] for number in range(len(names))]
    return [(name, f"[{text}]" if place == 1 else text) for name, text in zip(names, texts, strict=True)]


def _table(path: Path, column: str, rows: Iterable[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("name", column), *rows])


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m recipe.mer_r1.rehearse.corpus", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of both corpora")
    parser.add_argument("--frames", type=int, default=32, help="frames that a run keeps of a clip (default 32)")
    parser.add_argument("--fps", type=float, default=2.0, help="frames kept per second of clip (default 2)")
    parser.add_argument("--pixels", type=int, default=100_352, help="largest area of a kept frame (default 100352)")
    parser.add_argument("--sampling-rate", type=int, default=16_000, help="of the sound, in Hz (default 16000)")
    args = parser.parse_args(argv)
    write(args.out, args.frames, args.fps, args.pixels, args.sampling_rate)
    print(f"{args.out}: {TRAIN_CLIPS} training clips, {TEST_CLIPS} test clips")
    return 0


if __name__ == "__main__":
    sys.exit(main())
