"""Clips of the page as rows of a shard: an uploaded file, or one of a shard's rows."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av

from recipe.mer_r1.method.answer import build_prompt
from verl_ext.data.demux import ClipBytes, MediaError, fetch

_IMAGES = ("image2", "gif")
"""FFmpeg's formats of single pictures, beside those that end in `_pipe`."""


class SubtitleError(ValueError):
    """A subtitle that can't stand in a prompt."""


def uploaded(video: Path, subtitle: str, use_audio_in_video: bool) -> dict[str, Any]:
    """The row that a clip of a corpus without sound files would have; it has no labels.

    Raises:
        MediaError: the file is an image.
        SubtitleError: the subtitle holds a media placeholder, a tag of a response or a special token.
    """
    refuse_image(video)
    audios = [] if use_audio_in_video else [str(video)]
    return {
        "prompt": _prompt(subtitle, (), bool(audios)),
        "videos": [str(video)],
        "audios": audios,
        "reward_model": {"style": "rule", "ground_truth": []},
        "extra_info": {"name": video.name, "subtitle": subtitle},
    }


def refuse_image(path: Path) -> None:
    """An image decodes as a clip of one frame, and would be answered as if it were one.

    Raises:
        MediaError: names the file and its format. Any other fault of the file is left to the decoder.
    """
    try:
        with av.open(str(path)) as container:
            kind = container.format.name
    except (av.FFmpegError, OSError, ValueError):
        return
    if kind in _IMAGES or kind.endswith("_pipe"):
        name = path.suffix.removeprefix(".") or kind.removesuffix("_pipe")
        raise MediaError(
            f"{path} is an image ({name}); the model takes a video with sound. Upload an mp4, mov or webm."
        )


def with_subtitle(row: Mapping[str, Any], subtitle: str) -> dict[str, Any]:
    """A shard's row, its prompt phrased anew only where the subtitle was changed.

    Raises:
        SubtitleError: the subtitle holds a media placeholder, a tag of a response or a special token.
    """
    extra = row["extra_info"]
    if subtitle == (extra.get("subtitle") or ""):
        return dict(row)
    prompt = _prompt(subtitle, extra.get("options") or (), bool(row["audios"]), video=bool(row["videos"]))
    return {**row, "prompt": prompt, "extra_info": {**extra, "subtitle": subtitle}}


def choices(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """What the list of a shard's clips says, with the row's number."""
    found = []
    for index, row in enumerate(rows):
        spoken = row["extra_info"].get("subtitle") or ""
        found.append((f"{row['extra_info']['name']}{': ' if spoken else ''}{spoken}", index))
    return found


def playable(rows: Sequence[Mapping[str, Any]], index: int, folder: Path) -> Path | None:
    """A copy of a row's video in a folder whose files the page may serve; None for a row without.

    Raises:
        MediaError: the clip is embedded in a shard that has changed.
    """
    if not rows[index]["videos"]:
        return None
    source = fetch(rows[index]["videos"][0])
    copy = folder / f"{index}{Path(str(source)).suffix}"
    if isinstance(source, ClipBytes):
        copy.write_bytes(source.data)
    else:
        shutil.copyfile(source, copy)
    return copy


def _prompt(subtitle: str, options: Sequence[str], audio: bool, video: bool = True) -> list[dict[str, str]]:
    try:
        text = build_prompt(subtitle, options)
    except ValueError as error:
        raise SubtitleError(str(error)) from error
    for placeholder, there in (("<video>", video), ("<audio>", audio)):
        text = text if there else text.replace(placeholder, "", 1)
    return [{"role": "user", "content": text}]
