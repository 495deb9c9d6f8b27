"""Opening and decoding a clip, and what counts as damaged: one rule for training, vLLM and the check of a corpus.

PyAV only, so that `data_prep` checks clips without torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import av

REMEDY = "Re-encode the clip or drop its row."


class MediaError(ValueError):
    """A media file that is missing, has no such stream, or cannot be decoded; the message names the file.

    ``kind`` is a short fixed name to count by: missing, unreadable, no_video_track, no_audio_track, truncated,
    zero_frames; "" for what is no fault of the file, such as a limit.
    """

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


def open_clip(path: str | Path, kind: Literal["video", "audio"]) -> av.container.InputContainer:
    """Open a file that has a stream of that kind; to be closed by the caller.

    Raises:
        MediaError: the file is missing, is no clip, or has no such stream.
    """
    if not Path(path).is_file():
        raise MediaError(f"{kind} file not found: {path}. Check the paths that the shard was written with.", "missing")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError, ValueError) as error:  # ValueError: tags that are not UTF-8
        raise MediaError(f"cannot open {path} as {kind}: {error}. {REMEDY}", "unreadable") from error
    if not getattr(container.streams, kind):
        container.close()
        raise MediaError(f"{path} has no {kind} stream. {REMEDY}", f"no_{kind}_track")
    return container


def decode(
    container: av.container.InputContainer, stream: av.stream.Stream, path: str | Path
) -> Iterator[av.frame.Frame]:
    """All frames of ``stream``; a file that ends before its last packet does is an error, not a shorter clip.

    Raises:
        MediaError: the file is cut off, its content cannot be decoded, or there is not one frame.
    """
    empty = True
    try:
        # Packets of every stream: where a file is cut off, the last one is whichever stood there.
        for packet in container.demux():
            if packet.is_corrupt:
                raise MediaError(f"{path} is damaged or cut off. {REMEDY}", "truncated")
            if packet.stream.index == stream.index:
                for frame in packet.decode():
                    empty = False
                    yield frame
    except av.FFmpegError as error:
        raise MediaError(f"cannot decode the {stream.type} of {path}: {error}. {REMEDY}", "truncated") from error
    if empty:
        raise MediaError(f"{path} has an empty {stream.type} stream. {REMEDY}", "zero_frames")
