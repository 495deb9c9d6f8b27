"""A few real clips of different lengths, a shard of them, and a tiny Thinker, for tests."""

from __future__ import annotations

import wave
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

WORDS = ("happy", "sad", "angry", "delighted", "furious", "lonely")
SECONDS = (1.0, 2.0, 1.5, 2.5)
PROMPT = "<video><audio>Subtitle: clip {index}.\nWhat does the person feel?"


def write_video(path: Path, seconds: float, seed: int = 0, rate: int = 4) -> None:
    """An mp4 of 56 × 56 noise."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width = stream.height = 56
        stream.pix_fmt = "yuv420p"
        for _ in range(round(seconds * rate)):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (56, 56, 3), dtype=np.uint8), format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def write_audio(path: Path, seconds: float, pitch: float = 220.0) -> None:
    """A mono wav of a tone at 16 kHz."""
    time = np.arange(round(seconds * 16000)) / 16000
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((8000 * np.sin(2 * np.pi * pitch * time)).astype(np.int16).tobytes())


def write_shard(folder: Path, seconds: tuple[float, ...] = SECONDS, reason: str = "The face looks {word}.") -> Path:
    """Clips of these lengths and a shard of one row each."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, length in enumerate(seconds):
        video, audio = folder / f"{index}.mp4", folder / f"{index}.wav"
        write_video(video, length, seed=index)
        write_audio(audio, length, pitch=200 + 60 * index)
        word = WORDS[index % len(WORDS)]
        rows.append(
            {
                "data_source": "test",
                "prompt": [{"role": "user", "content": PROMPT.format(index=index)}],
                "videos": [str(video)],
                "audios": [str(audio)],
                "reward_model": {"style": "rule", "ground_truth": [word, WORDS[(index + 1) % len(WORDS)]]},
                "extra_info": {
                    "index": index,
                    "name": f"clip{index}",
                    "split": "sft",
                    "subtitle": f"clip {index}.",
                    "reason": reason.format(word=word),
                },
            }
        )
    shard = folder / "shard.parquet"
    pq.write_table(pa.Table.from_pylist(rows), shard)
    return shard
