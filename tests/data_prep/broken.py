"""A corpus in MER-Caption+'s layout with a clip for every way in which media break, made from small sound files."""

from __future__ import annotations

import csv
import io
import os
import signal
import time
import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from data_prep.check.decode import Facts, inspect
from data_prep.media import encode_mp4, encode_wav, pcm16
from data_prep.readers.mer_caption_plus import OPENSETS, REASONS, SUBTITLES

FPS, RATE, SECONDS = 4, 16_000, 1


def picture(seed: int, seconds: float = SECONDS) -> list[np.ndarray]:
    """Noise frames, which no encoder makes small; another seed gives other bytes."""
    random = np.random.default_rng(seed)
    return [random.integers(0, 255, (56, 56, 3), np.uint8) for _ in range(int(seconds * FPS))]


def tone(seconds: float = SECONDS, rate: int = RATE, loud: float = 0.3) -> np.ndarray:
    """A tone of 400 Hz."""
    return (loud * np.sin(2 * np.pi * 400 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def mp4(seed: int, seconds: float = SECONDS) -> bytes:
    """A sound clip with its own track; its index lies at the end."""
    return encode_mp4(picture(seed, seconds), FPS, tone(seconds), RATE)


def wav(seconds: float = SECONDS, rate: int = RATE, loud: float = 0.3) -> bytes:
    """A sound file."""
    return encode_wav(pcm16(tone(seconds, rate, loud)), rate)


def opposite() -> bytes:
    """A stereo sound whose channels cancel."""
    samples, out = pcm16(tone()), io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.stack([samples, -samples], axis=1).tobytes())
    return out.getvalue()


def remux(data: bytes, keep: Callable[[str], bool] = lambda kind: True, **options: str) -> bytes:
    """The same packets in a new file of the streams that are kept."""
    out = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(out, "w", format="mp4", options=options) as target:
        streams = {each.index: target.add_stream_from_template(each) for each in source.streams if keep(each.type)}
        for packet in source.demux():
            if packet.dts is not None and packet.stream.index in streams:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return out.getvalue()


def index_first(data: bytes) -> bytes:
    """The index in front, so that a file cut off still opens."""
    return remux(data, movflags="empty_moov+default_base_moof+frag_every_frame")


def no_frames(seed: int) -> bytes:
    """An index that speaks of a picture of which not one frame follows."""
    whole = index_first(mp4(seed))
    return whole[: whole.index(b"moof") - 4]


def overwritten(data: bytes, start: int, count: int) -> bytes:
    """All bits of some bytes of the media turned."""
    spoilt, begin = bytearray(data), data.index(b"mdat") + 4 + start
    for place in range(begin, begin + count):
        spoilt[place] ^= 0xFF
    return bytes(spoilt)


class Corpus:
    """Clips by name; what a test breaks is written at the end."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "mer2025-dataset"
        self.subtitles: list[tuple[str, ...]] = []
        self.opensets: list[tuple[str, ...]] = []
        for kind in ("video", "audio"):
            (self.folder / kind).mkdir(parents=True)

    def add(self, name: str, video: bytes | None, audio: bytes | None, subtitle="Well.", openset="[happy]") -> None:
        """A clip; None leaves a file out."""
        for kind, suffix, data in (("video", ".mp4", video), ("audio", ".wav", audio)):
            if data is not None:
                (self.folder / kind / f"{name}{suffix}").write_bytes(data)
        self.subtitles.append((name, "", subtitle))
        self.opensets.append((name, openset))

    def write(self) -> Path:
        """Write the tables; returns the root."""
        tables = {
            SUBTITLES: [("name", "chinese", "english"), *self.subtitles],
            OPENSETS: [("name", "openset"), *self.opensets],
            REASONS: [("name", "reason"), *((name, "It shows.") for name, _ in self.opensets)],
        }
        for file, rows in tables.items():
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(rows)
            (self.folder / file).write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))
        return self.root


def sound(root: Path, names: list[str]) -> Corpus:
    """A corpus without a fault."""
    corpus = Corpus(root)
    for seed, name in enumerate(names):
        corpus.add(name, mp4(seed), wav())
    corpus.write()
    return corpus


def broken(root: Path, elsewhere: Path) -> dict[str, set[str]]:
    """Make the corpus in `root`; name → kinds that a check must find. `elsewhere` gets the file of an outside link."""
    corpus, good = Corpus(root), wav()
    front = index_first(mp4(1))
    expected: dict[str, set[str]] = {}

    def add(name: str, kinds: str, video: bytes | None, audio: bytes | None = good, **texts: str) -> None:
        expected[name] = set(kinds.split())
        corpus.add(name, video, audio, **texts)

    add("sound", "", mp4(0))
    add("cut_video", "truncated", front[: len(front) * 6 // 10])
    add("no_index", "unreadable", mp4(2)[: len(mp4(2)) // 2])
    add("zero_bytes", "empty_file", b"")
    add("zero_bytes_sound", "empty_file", mp4(3), b"")
    add("text_as_video", "unreadable", b"<html>404 Not Found</html>\n" * 50)
    add("text_as_sound", "unreadable", mp4(4), b"not a sound " * 50)
    add("sound_only", "no_video_track", remux(mp4(5), lambda kind: kind == "audio"))
    add("picture_as_sound", "no_audio_track", mp4(6), remux(mp4(6), lambda kind: kind == "video"))
    add("no_frame", "zero_frames", no_frames(7))
    add("turned_bytes", "truncated", overwritten(mp4(8), 2000, 4000))
    add("patched", "damaged_frames", overwritten(mp4(9), 700, 1000))
    add("header_alone", "zero_frames", mp4(10), good[:44])
    add("cut_sound", "truncated", mp4(11), good[: len(good) // 2 + 1])
    add("cut_sound_evenly", "truncated duration_mismatch", mp4(12), good[: 44 + 8192])
    add("quiet", "silent", mp4(13), wav(loud=0.0005))
    add("zeros", "silent", mp4(14), wav(loud=0))
    add("telephone", "wrong_rate", mp4(15), wav(rate=8000))
    add("no_token", "too_short", mp4(26), encode_wav(pcm16(tone()[:320]), RATE))
    add("narrow", "bad_shape", encode_mp4([np.zeros((802, 4, 3), np.uint8)] * 4, FPS, tone(), RATE))
    add("opposite", "silent", mp4(27), opposite())
    add("overlong", "too_long", mp4(16, 4), wav(4))
    add("apart", "duration_mismatch", mp4(17), wav(2))
    add("no_video", "video_missing", None)
    add("no_sound", "audio_missing", mp4(18), None)
    add("latin", "subtitle_not_utf8", mp4(19), subtitle="caf\udce9")
    add("nan", "subtitle_empty", mp4(20), subtitle="nan")
    add("empty_openset", "label_empty", mp4(21), openset="[]")
    add("two_faults", "subtitle_empty truncated", front[: len(front) * 7 // 10], subtitle="")
    add("copied", "duplicate_content", mp4(0))
    add("seen_by_name", "in_test_too", mp4(22))
    add("seen_by_content", "in_test_too", mp4(23))
    add("Upper", "name_mismatch", None)
    (corpus.folder / "video" / "upper.mp4").write_bytes(mp4(24))
    add("linked", "outside_root", None)
    elsewhere.write_bytes(mp4(25))
    (corpus.folder / "video" / "linked.mp4").symlink_to(elsewhere)
    corpus.opensets.append(("sound", "[sad]"))
    corpus.write()
    return expected


def hostile(path: Path, want: str, rate: int) -> Facts:
    """A decoder that some files end, by their name."""
    if path.stem.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if path.stem.startswith("exit"):
        os._exit(3)
    if path.stem.startswith("raise"):
        raise OverflowError("a number that no decoder expected")
    if path.stem.startswith("hang"):
        time.sleep(600)
    return inspect(path, want, rate)


def slow(path: Path, want: str, rate: int) -> Facts:
    """A decoder that takes its time."""
    time.sleep(0.15)
    return inspect(path, want, rate)
