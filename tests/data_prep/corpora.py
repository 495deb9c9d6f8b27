"""Every known corpus in its published layout, tiny, with real media files and the known faults of the real ones.

`make(name, folder)` writes the corpus and returns what its reader should find.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import av
import numpy as np

from data_prep.media import encode_mp4, encode_wav, pcm16

RATE = 16_000


@dataclass
class Expected:
    """What a reader should find: name → labels of the clips without faults, name → kinds of the others."""

    labels: dict[str, tuple[str, ...]]
    faults: dict[str, tuple[str, ...]] = field(default_factory=dict)
    subtitles: dict[str, str] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    options: dict[str, tuple[str, ...]] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    videos: dict[str, str] = field(default_factory=dict)
    """Path of the video inside the folder, where it is worth a look."""


@cache
def sound() -> np.ndarray:
    """Half a second of a 220 Hz tone."""
    return 0.3 * np.sin(2 * np.pi * 220 * np.arange(RATE // 2) / RATE).astype(np.float32)


@cache
def mp4() -> bytes:
    """Two frames a second, with sound."""
    frames = [np.full((56, 56, 3), shade, np.uint8) for shade in (40, 90)]
    return encode_mp4(frames, 4, sound(), RATE)


@cache
def wav() -> bytes:
    """16-bit mono."""
    return encode_wav(pcm16(sound()), RATE)


@cache
def avi() -> bytes:
    """MPEG-4 video alone in an AVI, as IEMOCAP and part of MER2023 have it."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="avi") as container:
        video = container.add_stream("mpeg4", rate=4)
        video.width = video.height = 56
        video.pix_fmt = "yuv420p"
        for shade in (40, 90):
            frame = av.VideoFrame.from_ndarray(np.full((56, 56, 3), shade, np.uint8), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode())
    return buffer.getvalue()


def media(folder: Path, names: Sequence[str], video: str = "video", audio: str = "audio", suffix: str = ".mp4") -> None:
    """A video and a sound file a name."""
    for name in names:
        put(folder / video / f"{name}{suffix}", avi() if suffix == ".avi" else mp4())
        put(folder / audio / f"{name}.wav", wav())


def put(path: Path, data: bytes) -> None:
    """Write a file, its folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def table(path: Path, *lines: str, encoding: str = "utf-8") -> None:
    """A CSV of these lines."""
    put(path, ("\n".join(lines) + "\n").encode(encoding))


def npz(path: Path, **members: dict) -> None:
    """Label dicts as MERBench saves them: pickled, in 0-d object arrays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{key: np.array(value, dtype=object) for key, value in members.items()})


def mer_caption_plus(root: Path) -> Expected:
    """The faults that are known of it: empty opensets, NaN subtitles, a missing clip, a name twice."""
    folder = root / "mer2025-dataset"
    media(folder, ["00001", "00002", "sample_3", "empty", "silent", "gone", "unmapped"])
    (folder / "audio" / "gone.wav").unlink()
    table(
        folder / "track2_train_mercaptionplus.csv",
        "name,openset",
        '00001,"[happy, excited]"',
        "00002,[worried]",
        "sample_3,\"['sad', 'Sad', 'let down']\"",
        "empty,[]",
        "silent,[angry]",
        "gone,[angry]",
        "unmapped,[table]",
        "00001,[sad]",
    )
    table(
        folder / "subtitle_chieng.csv",
        "name,chinese,english",
        '00001,"你好，朋友","Hello, friend"',
        "00002,无,None",
        'sample_3,,"She said ""no"" twice"',
        "empty,,Well",
        "silent,嗯,nan",
        "gone,,Where",
        "unmapped,,A table",
        "unlabelled,,Nobody asks for this row",
        encoding="utf-8-sig",
    )
    table(
        folder / "track3_train_mercaptionplus.csv", "name,reason", '00001,"He smiles, and laughs."', "unmapped,A table."
    )
    return Expected(
        {
            "00001": ("happy", "excited"),
            "00002": ("worried",),
            "sample_3": ("sad", "let down"),
            "unmapped": ("table",),
        },
        {
            "empty": ("label_empty",),
            "silent": ("subtitle_empty",),
            "gone": ("audio_missing",),
            "00001": ("name_duplicate",),
        },
        {"00001": "Hello, friend", "00002": "None", "sample_3": 'She said "no" twice'},
        reasons={"00001": "He smiles, and laughs.", "00002": ""},
        videos={"00001": "mer2025-dataset/video/00001.mp4"},
    )


def challenge(year: int) -> Path:
    """The folder of one year's challenge."""
    return Path(f"mer{year}-dataset")


def subtitles(folder: Path, *names: str) -> None:
    """The challenge's subtitles of these clips."""
    lines = (f'{name},中文,"English, {name}"' for name in names)
    table(folder / "subtitle_chieng.csv", "name,chinese,english", *lines)


def mer2026(root: Path) -> Expected:
    """No reasons, and the empty openset that MER2025's file has too; other tracks' files are not read."""
    folder = root / challenge(2026)
    media(folder, ["samplenew3_00000001", "samplenew3_00000002", "empty"])
    rows = ('samplenew3_00000001,"[happy, excited]"', "samplenew3_00000002,[worried]", "empty,[]")
    table(folder / "track2_train_mercaptionplus.csv", "name,openset", *rows)
    table(folder / "track3_emoprefer.csv", "name,a,b,preference", "samplenew3_00000001,one,two,a")
    subtitles(folder, "samplenew3_00000001", "samplenew3_00000002", "empty")
    return Expected(
        {"samplenew3_00000001": ("happy", "excited"), "samplenew3_00000002": ("worried",)},
        {"empty": ("label_empty",)},
        subtitles={"samplenew3_00000001": "English, samplenew3_00000001"},
        reasons={"samplenew3_00000001": ""},
        videos={"samplenew3_00000001": "mer2026-dataset/video/samplenew3_00000001.mp4"},
    )


def human(year: int, file: str) -> Callable[[Path], Expected]:
    """Human labels: an empty list counts as neutral, a clip without subtitle stays."""

    def make_it(root: Path) -> Expected:
        folder = root / challenge(year)
        media(folder, ["human_1", "human_2", "human_3"])
        table(folder / file, "name,openset", 'human_1,"[angry, hurt]"', "human_2,[]", "human_3,[calm]")
        subtitles(folder, "human_1", "human_2")
        return Expected(
            {"human_1": ("angry", "hurt"), "human_2": ("neutral",), "human_3": ("calm",)},
            subtitles={"human_1": "English, human_1", "human_3": ""},
        )

    return make_it


def candidates(year: int, file: str) -> Callable[[Path], Expected]:
    """Names without labels; a name twice and a clip without sound are named."""

    def make_it(root: Path) -> Expected:
        folder = root / challenge(year)
        media(folder, ["00012", "second", "gone"])
        (folder / "audio" / "gone.wav").unlink()
        table(folder / file, "name,discrete", "00012,", "second,", "gone,", "00012,")
        subtitles(folder, "00012")
        return Expected(
            {"00012": (), "second": ()},
            {"gone": ("audio_missing",), "00012": ("name_duplicate",)},
            subtitles={"00012": "English, 00012", "second": ""},
        )

    return make_it


def mer2025_ovmerd(root: Path) -> Expected:
    """Human labels with reasons."""
    folder = root / challenge(2025)
    media(folder, ["one", "two"])
    table(folder / "track2_train_ovmerd.csv", "name,openset", "one,[sad]", "two,[happy]")
    table(folder / "track3_train_ovmerd.csv", "name,reason", "one,She weeps.")
    subtitles(folder, "one", "two")
    return Expected({"one": ("sad",), "two": ("happy",)}, reasons={"one": "She weeps.", "two": ""})


def micro(root: Path) -> Expected:
    """The layout alone; the real thing is made by data_prep.micro."""
    for split in ("train", "test"):
        folder = root / split
        media(folder, [f"{split}_00000"])
        table(folder / "track2_train_mercaptionplus.csv", "name,openset", f"{split}_00000,[happy]")
        table(folder / "subtitle_chieng.csv", "name,chinese,english", f"{split}_00000,,Well done")
        table(folder / "track3_train_mercaptionplus.csv", "name,reason", f"{split}_00000,The face shows joy.")
    return Expected({"train_00000": ("happy",)}, subtitles={"train_00000": "Well done"})


def ov_merd_plus(root: Path) -> Expected:
    """An empty list counts as neutral; a clip without subtitle stays, for the scores are over all clips."""
    folder = root / "ovmerdplus-process"
    media(folder, ["sample_1", "sample_2", "sample_3"])
    table(folder / "ovlabel.csv", "name,openset", '"sample_1","[happy, joyful]"', "sample_2,", "sample_3,[sad]")
    table(folder / "subtitle_eng.csv", "name,sentence", "sample_1,Hello", "sample_2,nan")
    return Expected(
        {"sample_1": ("happy", "joyful"), "sample_2": ("neutral",), "sample_3": ("sad",)},
        subtitles={"sample_1": "Hello", "sample_2": "", "sample_3": ""},
    )


def mer2023(root: Path) -> Expected:
    """Some videos are avi; other members of the label file are not the test set."""
    folder = root / "mer2023-dataset-process"
    media(folder, ["sample_1"])
    media(folder, ["sample_2"], suffix=".avi")
    labels = {"sample_1": {"emo": "worried", "val": -1.0}, "sample_2": {"emo": "neutral"}}
    npz(folder / "label-6way.npz", train_corpus={"other": {"emo": "sad", "val": 0.0}}, test1_corpus=labels)
    transcripts(folder, labels)
    return Expected(
        {"sample_1": ("worried",), "sample_2": ("neutral",)},
        subtitles={"sample_1": "English of sample_1"},
        videos={
            "sample_1": "mer2023-dataset-process/video/sample_1.mp4",
            "sample_2": "mer2023-dataset-process/video/sample_2.avi",
        },
    )


def mer2024(root: Path) -> Expected:
    """Its transcripts are read in Chinese."""
    folder = root / "mer2024-dataset-process"
    media(folder, ["samplenew3_00000048"])
    npz(folder / "label-6way.npz", test1_corpus={"samplenew3_00000048": {"emo": "surprise", "val": 0.5}})
    table(folder / "transcription_merge.csv", "name,chinese", "samplenew3_00000048,真的吗")
    return Expected({"samplenew3_00000048": ("surprise",)}, subtitles={"samplenew3_00000048": "真的吗"})


def transcripts(folder: Path, names: Sequence[str], header: str = "name,chinese,english") -> None:
    """MERBench's transcripts of these clips."""
    lines = (f'{name},"中文, {name}",English of {name}' for name in names)
    table(folder / "transcription-engchi-polish.csv", header, *lines)


def numbered(root: Path, folder: str, file: str, member: str, words: Sequence[str], **places: str) -> Expected:
    """A set whose emotions are numbers: one clip each."""
    names = [f"Ses05F_impro01_F{i:03}" for i in range(len(words))]
    media(root / folder, names, **places)
    labels = {name: {"emo": np.int64(i) if i else 0, "val": 0.0} for i, name in enumerate(names)}
    others = {"Ses01F_impro01_F000": {"emo": 0, "val": 0.0}} if member == "whole_corpus" else {}
    npz(root / folder / file, **{member: others | labels})
    transcripts(root / folder, names)
    return Expected({name: (word,) for name, word in zip(names, words, strict=True)})


def meld(root: Path) -> Expected:
    """Seven emotions."""
    words = ("anger", "joy", "sadness", "neutral", "disgust", "fear", "surprise")
    return numbered(root, "meld-process", "label.npz", "test_corpus", words, video="subvideo", audio="subaudio")


def iemocap(root: Path) -> Expected:
    """Four emotions; only the fifth session is asked for."""
    words = ("happy", "sad", "neutral", "anger")
    places = {"video": "subvideo-tgt", "audio": "subaudio", "suffix": ".avi"}
    return numbered(root, "iemocap-process", "label_4way.npz", "whole_corpus", words, **places)


def sentiment(folder: str, video: str, audio: str) -> Callable[[Path], Expected]:
    """A set scored by polarity; one clip lacks its score."""

    def make_it(root: Path) -> Expected:
        values = {"tv$_$1": 1.4, "tv$_$2": -0.2, "tv$_$3": 0.0}
        media(root / folder, [*values, "unknown"], video, audio)
        labels = {name: {"emo": 0, "val": value} for name, value in values.items()}
        npz(root / folder / "label.npz", test_corpus=labels | {"unknown": {"emo": 0}})
        transcripts(root / folder, [*values, "unknown"])
        words = ("positive", "negative", "neutral")
        truths = {name: (word,) for name, word in zip(values, words, strict=True)}
        return Expected(truths, {"unknown": ("label_empty",)}, values=values)

    return make_it


OPTIONS = ("fear", "disgust", "anger")


def mme_emotion(root: Path) -> Expected:
    """Eight tasks; one clip is asked about in two of them, each time as its own question."""
    from data_prep.readers.mme_emotion import TASKS

    for number, task in enumerate(TASKS):
        clips = [{"video_id": f"MAFW/video/{number:05}.mp4", "label": "anger, disgust", "label_set": list(OPTIONS)}]
        if task == "SA":
            clips.append({**clips[0], "video_id": "MAFW/video/00000.mp4"})
        put(root / task / "question" / f"{task.replace('-', '_')}.json", json.dumps(clips, indent=2).encode())
        put(root / "MAFW" / "video" / f"{number:05}.mp4", mp4())
    names = [f"MAFW/video/{number:05}.mp4" for number in range(len(TASKS))]
    return Expected(
        dict.fromkeys(names, ("anger", "disgust")),
        options=dict.fromkeys(names, OPTIONS),
        videos={names[0]: names[0]},
        groups={names[1]: "ER-Wild"},
    )


_MAKERS: dict[str, Callable[[Path], Expected]] = {
    "iemocap": iemocap,
    "meld": meld,
    "mer2023": mer2023,
    "mer2024": mer2024,
    "mer2025_candidates": candidates(2025, "track_all_candidates.csv"),
    "mer2025_ov": human(2025, "track2_test.csv"),
    "mer2025_ovmerd": mer2025_ovmerd,
    "mer2026": mer2026,
    "mer2026_candidates": candidates(2026, "track1_track2_candidate.csv"),
    "mer2026_human": human(2026, "track2_train_human.csv"),
    "mer_caption_plus": mer_caption_plus,
    "micro": micro,
    "mme_emotion": mme_emotion,
    "mosei": sentiment("cmumosei-process", "subvideo_new", "subaudio"),
    "mosi": sentiment("cmumosi-process", "subvideo", "subaudio"),
    "ov_merd_plus": ov_merd_plus,
    "sims": sentiment("sims-process", "video", "audio"),
    "simsv2": sentiment("simsv2-process", "video_new", "audio"),
}


def make(name: str, folder: Path) -> Expected:
    """Write the corpus `name` into `folder`."""
    return _MAKERS[name](folder)
