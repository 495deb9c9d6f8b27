"""Opening and decoding a clip, and what counts as damaged: one rule for training, vLLM and the check of a corpus.

PyAV only, so that `data_prep` checks clips without torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import av
import numpy as np

from verl_ext.data.embedded import EmbeddedClip
from verl_ext.data.source import REMEDY, ClipBytes, ClipSource, MediaError

__all__ = ["ClipBytes", "ClipSource", "MediaError", "decode", "fetch", "open_clip", "resample"]


def fetch(source: ClipSource) -> ClipSource:
    """Follow a reference to a clip inside a shard; paths and bytes stay what they are.

    Raises:
        MediaError: the shard cannot be read, or has no such clip.
    """
    embedded = EmbeddedClip.parse(source)
    return embedded.read() if embedded else source


def open_clip(source: ClipSource, kind: Literal["video", "audio"]) -> av.container.InputContainer:
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
        raise MediaError(f"{kind} file not found: {source}. {way_out}", "missing")
    try:
        container = av.open(source.open() if isinstance(source, ClipBytes) else str(source))
    except (av.FFmpegError, OSError, ValueError) as error:  # ValueError: tags that are not UTF-8
        raise MediaError(f"cannot open {source} as {kind}: {error}. {REMEDY}", "unreadable") from error
    if not getattr(container.streams, kind):
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


def resample(frames: Iterable[av.AudioFrame], rate: int, source: ClipSource) -> Iterator[np.ndarray]:
    """The sound of decoded frames, mixed down to mono, in blocks of float32 (samples,) at ``rate`` Hz.

    Raises:
        MediaError: the sound changes its layout in the middle, or has none that can be mixed down.
    """
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
    try:
        for frame in frames:
            yield from (block.to_ndarray()[0] for block in resampler.resample(frame))
        yield from (block.to_ndarray()[0] for block in resampler.resample(None))
    except MediaError:
        raise
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"cannot resample the sound of {source}: {error}. {REMEDY}", "truncated") from error
