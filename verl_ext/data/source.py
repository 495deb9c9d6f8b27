"""What a clip is read from, a file or bytes in memory, and the error of one that cannot be read."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import TypeAlias

REMEDY = "Re-encode the clip or drop its row."


class MediaError(ValueError):
    """A media file that is missing, has no such stream, or cannot be decoded; the message names the file.

    ``kind`` is a short fixed name to count by: missing, unreadable, no_video_track, no_audio_track, truncated,
    zero_frames, bad_shape, bad_times, too_short, decoder_hung; "" for what is no fault of the file, such as a limit.
    """

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, repr=False)
class ClipBytes:
    """A clip in memory.

    Attributes:
        name: how messages call it; its ending is a hint at the format, as a file's is.
        data: the content of the file.
    """

    name: str
    data: bytes

    @cached_property
    def sha256(self) -> str:
        """Digest of the content: two clips of one name are not the same clip."""
        return hashlib.sha256(self.data).hexdigest()

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"ClipBytes({self.name!r}, sha256={self.sha256})"  # keys of caches are made of it

    def open(self) -> io.BytesIO:
        """The content as a file that FFmpeg can seek in."""
        file = io.BytesIO(self.data)
        file.name = PurePath(self.name).name  # read by PyAV
        return file


ClipSource: TypeAlias = str | Path | ClipBytes
