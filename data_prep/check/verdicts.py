"""What is wrong with a clip, by kind: "drop" what training refuses or must not see, "note" what it takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_prep.check.decode import SILENCE, Facts
from data_prep.check.look import Look
from data_prep.check.pool import Lost
from data_prep.clip import Clip

Severity = Literal["drop", "note"]
_SHORT = 0.9  # of what a header announces; less is a file that was cut off
_APART = 0.1  # share of the longer track by which picture and sound may differ in length
_BLINK = 0.5  # seconds of difference that never matter

KINDS: dict[str, tuple[Severity, str]] = {
    "name_bad": ("drop", "the name is empty or points outside the folder"),
    "name_duplicate": ("drop", "the name appears again; the first row is kept"),
    "name_mismatch": ("drop", "the file's name differs in case, blanks or Unicode form"),
    "outside_root": ("drop", "a link points outside the folder; --links-to allows it"),
    "video_missing": ("drop", "no video file"),
    "audio_missing": ("drop", "no sound file"),
    "subtitle_missing": ("drop", "no row in the subtitle file"),
    "subtitle_empty": ("drop", "the subtitle is empty or nan"),
    "subtitle_not_utf8": ("drop", "the subtitle is not UTF-8"),
    "subtitle_ambiguous": ("drop", "the clip has two different subtitles"),
    "reason_not_utf8": ("drop", "the reason is not UTF-8"),
    "reason_ambiguous": ("drop", "the clip has two different reasons"),
    "label_empty": ("drop", "no label"),
    "label_bad": ("drop", "the label is not a list"),
    "label_separator": ("drop", "a label contains a character that no word has; --odd-labels splits there or keeps it"),
    "label_not_utf8": ("drop", "the label row is not UTF-8"),
    "markup_in_text": ("drop", "a text contains a tag such as <video>"),
    "empty_file": ("drop", "the file has 0 bytes"),
    "unreadable": ("drop", "not a media file, or its index is cut off"),
    "no_video_track": ("drop", "the video file has sound only"),
    "no_audio_track": ("drop", "the file that should hold the sound has no sound track"),
    "zero_frames": ("drop", "a track has no frames"),
    "truncated": ("drop", "the file is cut off, or so damaged that decoding stops"),
    "bad_shape": ("drop", "one side of the picture is over 200 times as long as the other"),
    "bad_times": ("drop", "the time stamps of the sound jump by over a day"),
    "too_short": ("drop", "the sound is shorter than one audio token, 25 ms"),
    "decoder_crashed": ("drop", "the decoder process crashed on the file"),
    "decoder_hung": ("drop", "decoding took longer than the time limit"),
    "too_long": ("drop", "longer than --max-seconds"),
    "prompt_too_long": ("drop", "the prompt has more tokens than --max-prompt-length"),
    "no_prompt": ("drop", "the model's processor rejects the clip, e.g. because of its shape"),
    "in_test_too": ("drop", "same name or content as a held-out clip"),
    "damaged_frames": ("note", "the decoder patched frames"),
    "silent": ("note", f"no sound above {SILENCE:g} dBFS"),
    "wrong_rate": ("note", "not the sampling rate of training; training resamples the sound"),
    "duration_mismatch": ("note", f"video and audio lengths differ by more than {_APART:.0%} and {_BLINK:g} s"),
    "variable_rate": ("note", "the frames do not come at the announced rate; they are chosen by their time stamps"),
    "size_changes": ("note", "frames change their size; all are scaled to the size of the first frame"),
    "several_tracks": ("note", "several tracks of one kind; the first default track is used, else the first track"),
    "duplicate_content": ("note", "same bytes as another clip's video"),
}
ROW_KINDS = ("name_bad", "name_duplicate")
"""Faults of a row and not of the clip of that name, which another row may hold rightly."""


def severity(kind: str) -> Severity:
    """Whether clips of this kind are dropped; a fault that a reader found always drops."""
    return KINDS[kind][0] if kind in KINDS else "drop"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a user sets."""

    sampling_rate: int = 16_000
    """Hz."""
    max_seconds: float | None = None
    max_prompt_length: int | None = None
    """Tokens."""


@dataclass(frozen=True, slots=True)
class Media:
    """A clip's files with what was found in them; `audio` is the video's path where its own track is the sound."""

    video: tuple[Path, Facts] | None
    audio: tuple[Path, Facts] | None


def of_media(clip: Clip, media: Media, limits: Limits) -> Iterator[tuple[str, str]]:
    """(kind, message) of all that is wrong with the files."""
    broken = set()
    for found in (media.video, media.audio):
        if found and found[1].fault and found[0] not in broken:
            broken.add(found[0])
            yield found[1].fault, _fault(clip, *found)
    video = _whole(media.video)
    audio = _whole(media.audio)
    for kind, path, text in _of_whole(video, audio, limits):
        yield kind, f"{clip.where}: clip {clip.name!r}: {path}: {text}"


def _of_whole(
    video: tuple[Path, Facts] | None, audio: tuple[Path, Facts] | None, limits: Limits
) -> Iterator[tuple[str, Path, str]]:
    yield from _of_video(video)
    yield from _of_audio(audio, limits)
    yield from _of_tracks((video, audio))
    yield from _of_both(video, audio, limits)


def _whole(found: tuple[Path, Facts] | None) -> tuple[Path, Facts] | None:
    return None if found is None or found[1].fault else found


def _fault(clip: Clip, path: Path, facts: Facts) -> str:
    detail = f" ({facts.detail})" if facts.detail else ""
    meaning = KINDS[facts.fault][1]
    return f"{clip.where}: clip {clip.name!r}: {path}: {meaning}{detail}; {_way_out(facts.fault)}"


def _way_out(kind: str) -> str:
    if kind in ("empty_file", "unreadable", "truncated"):
        return "copy or download it again, or leave the clip out"
    if kind == "decoder_hung":
        return "re-encode it, or leave the clip out; if the machine was busy, run the check again"
    if kind == "decoder_crashed":
        return "re-encode it, or leave the clip out; if many crash, give the workers more memory"
    return "re-encode it, or leave the clip out"


def _of_video(video: tuple[Path, Facts] | None) -> Iterator[tuple[str, Path, str]]:
    if not video:
        return
    path, facts = video
    if facts.damaged:
        yield "damaged_frames", path, f"the decoder patched {facts.damaged} frames; check the clip or re-encode it"
    if not facts.steady:
        said = f"the header says {facts.announced_fps:.4g} frames per second"
        real = f"the time stamps of the {facts.frames} frames say otherwise ({facts.fps:.4g} on average)"
        yield "variable_rate", path, f"{said}, {real}; frames are chosen by their time stamps"
    if facts.resized:
        text = f"{facts.resized} of {facts.frames} frames have another size than the first ({facts.width} × "
        yield "size_changes", path, f"{text}{facts.height}); they are scaled to it; re-encode the clip if that is wrong"


def _of_tracks(found: Iterable[tuple[Path, Facts] | None]) -> Iterator[tuple[str, Path, str]]:
    """Each file once, also where it is both picture and sound."""
    for path, tracks in dict.fromkeys((each[0], each[1].tracks) for each in found if each and each[1].tracks):
        yield "several_tracks", path, f"{tracks}; keep one of each kind if the used track is the wrong one"


def _of_audio(audio: tuple[Path, Facts] | None, limits: Limits) -> Iterator[tuple[str, Path, str]]:
    if not audio:
        return
    path, facts = audio
    said, there = facts.announced, facts.audio_seconds
    if there < said * _SHORT and said - there > _BLINK / 2:
        yield "truncated", path, f"has {there:.2f} s, but its header says {said:.2f} s; copy or download it again"
    if facts.peak < SILENCE:
        why = "the clip is silent"
        if facts.channel_peak >= SILENCE:
            why = f"its channels cancel when they are mixed to mono (alone up to {facts.channel_peak:.0f} dBFS); fix it"
        yield "silent", path, f"the peak is {facts.peak:.0f} dBFS, below {SILENCE:g}; {why}"
    if facts.rate != limits.sampling_rate:
        yield "wrong_rate", path, f"{facts.rate} Hz, not {limits.sampling_rate}; training resamples it"


def _of_both(
    video: tuple[Path, Facts] | None, audio: tuple[Path, Facts] | None, limits: Limits
) -> Iterator[tuple[str, Path, str]]:
    lengths = [(video[1].video_seconds, video[0])] if video else []
    lengths += [(audio[1].audio_seconds, audio[0])] if audio else []
    if not lengths:
        return
    longest, path = max(lengths)
    if limits.max_seconds is not None and longest > limits.max_seconds:
        yield "too_long", path, f"{longest:.1f} s, over --max-seconds {limits.max_seconds:g}; cut it or raise the limit"
    if len(lengths) == 2 and lengths[0][0]:
        apart = abs(lengths[0][0] - lengths[1][0])
        if apart > max(_BLINK, _APART * longest):
            text = f"the video lasts {lengths[0][0]:.2f} s, the audio {lengths[1][0]:.2f} s"
            yield "duration_mismatch", path, f"{text}; check that they belong together"


def of_tokens(clip: Clip, tokens: int, limits: Limits) -> Iterator[tuple[str, str]]:
    """(kind, message) where a prompt is too long."""
    if limits.max_prompt_length is not None and tokens > limits.max_prompt_length:
        text = f"the prompt has {tokens} tokens, over --max-prompt-length {limits.max_prompt_length}"
        yield "prompt_too_long", f"{clip.where}: clip {clip.name!r}: {text}; raise the limit, or leave the clip out"


def no_prompt(clip: Clip, error: ValueError) -> str:
    """Message for a clip that the model's processor refuses."""
    return f"{clip.where}: clip {clip.name!r}: {clip.video}: {error}; cut or re-encode it, or leave the clip out"


def lost(clip: Clip, looks: Iterable[Look], how: Lost) -> str:
    """Message for a clip whose worker ended; which of its files was at fault is not known."""
    paths = " or ".join(str(look.path) for look in looks)
    return f"{clip.where}: clip {clip.name!r}: {paths}: {KINDS[how.kind][1]} ({how.detail}); {_way_out(how.kind)}"


def seconds(media: Media) -> float:
    """Length of a clip's longer track."""
    picture = media.video[1].video_seconds if media.video else 0.0
    return max(picture, media.audio[1].audio_seconds if media.audio else 0.0)
