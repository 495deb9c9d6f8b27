"""Opening and decoding a clip, and what counts as damaged: one rule for training, vLLM and the check of a corpus.

PyAV only, so that `data_prep` checks clips without torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import av
from av.stream import Disposition

from verl_ext.data.embedded import EmbeddedClip
from verl_ext.data.source import REMEDY, ClipBytes, ClipSource, MediaError

__all__ = ["ClipBytes", "ClipSource", "MediaError", "decode", "fetch", "open_clip", "start_of", "track_of", "tracks_of"]

Kind = Literal["video", "audio"]
_COVER, _DEFAULT = Disposition.attached_pic.value, Disposition.default.value


def fetch(source: ClipSource) -> ClipSource:
    """Follow a reference to a clip inside a shard; paths and bytes stay what they are.

    Raises:
        MediaError: the shard cannot be read, or has no such clip.
    """
    embedded = EmbeddedClip.parse(source)
    return embedded.read() if embedded else source


def open_clip(source: ClipSource, kind: Kind) -> av.container.InputContainer:
    """Open a clip that has a stream of that kind; to be closed by the caller.

    Args:
        source: a path, a reference to a clip inside a shard, or the clip's bytes.
        kind: of the stream.

    Raises:
        MediaError: the file is missing, is no clip, or has no such stream.
    """
    source = fetch(source)
    if not isinstance(source, ClipBytes) and not Path(source).is_file():
        way_out = "Check the paths in the shard."
        if os.path.exists(source) and not os.path.isdir(source):
            raise MediaError(f"{kind} file is a pipe or device, not a regular file: {source}. {way_out}", "unreadable")
        raise MediaError(f"{kind} file not found: {source}. {way_out}", "missing")
    try:
        container = av.open(source.open() if isinstance(source, ClipBytes) else str(source))
    except (av.FFmpegError, OSError, ValueError) as error:  # ValueError: tags that are not UTF-8
        raise MediaError(f"cannot open {source} as {kind}: {error}. {REMEDY}", "unreadable") from error
    if not tracks_of(container, kind):
        container.close()
        raise MediaError(f"{source} has no {kind} stream. {REMEDY}", f"no_{kind}_track")
    return container


def decode(
    container: av.container.InputContainer, stream: av.stream.Stream, source: ClipSource
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
                raise MediaError(f"{source} is damaged or cut off. {REMEDY}", "truncated")
            if packet.stream.index == stream.index:
                for frame in packet.decode():
                    empty = False
                    yield frame
    except av.FFmpegError as error:
        raise MediaError(f"cannot decode the {stream.type} of {source}: {error}. {REMEDY}", "truncated") from error
    if empty:
        raise MediaError(f"{source} has an empty {stream.type} stream. {REMEDY}", "zero_frames")


def tracks_of(container: av.container.InputContainer, kind: Kind) -> list[av.stream.Stream]:
    """The streams of that kind, without pictures that are a cover."""
    streams = getattr(container.streams, kind)
    return [stream for stream in streams if not stream.disposition.value & _COVER]


def track_of(container: av.container.InputContainer, kind: Kind) -> av.stream.Stream:
    """The stream that is used: of several, the first that the file marks as default, else the first."""
    tracks = tracks_of(container, kind)
    return next((stream for stream in tracks if stream.disposition.value & _DEFAULT), tracks[0])


def start_of(container: av.container.InputContainer) -> float:
    """Time stamp, in seconds, at which the clip's clock starts: its picture or its sound, whichever is first."""
    if len(container.streams) == 1 and not container.streams[0].start_time:
        return 0.0
    used = [track_of(container, kind) for kind in ("video", "audio") if tracks_of(container, kind)]
    starts = [float(stream.start_time * stream.time_base) for stream in used if stream.start_time is not None]
    return min(starts, default=0.0)
