"""Decoded clips on disk, shared by processes: the G responses of a prompt, epochs and workers decode a clip once.

A file holds what :mod:`verl_ext.data.media` returned, bit for bit, as a line of JSON and raw numbers: nothing is
unpickled. A file that is damaged counts as absent, and a disk that is full as a cache that is off.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import av
import numpy as np
import torch

from verl_ext.data.bounded import SECONDS, bounded
from verl_ext.data.demux import ClipBytes, ClipSource
from verl_ext.data.embedded import EmbeddedClip
from verl_ext.data.media import Video, read_audio, read_video

LAYOUT = 2
"""Raise it when a file's layout, or what decoding returns, changes."""
FREE_BYTES = 1 << 30
"""Disk space that is left to others: checkpoints must not fail for a cache."""
_LOCKS = 64
_PART, _CLIP = ".part", ".clip"
_PART_SECONDS = 3600.0
_log = logging.getLogger(__name__)


class ClipCache:
    """A folder of decoded clips of about `gigabytes` at most; those used longest ago go first.

    Any number of processes, and runs, may share a folder on a local disk. A process looks at the whole folder each time
    it has added a hundredth of the limit, and then frees a tenth: ten processes stay within the limit.

    Args:
        folder: made if it is missing.
        gigabytes: in 10⁹ bytes. A frame of 1280 × 720 has 2.8 MB.
        seconds: the longest that reading a clip may take.
    """

    def __init__(self, folder: str | Path, gigabytes: float, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._folder = Path(folder)
        self._limit = round(gigabytes * 1e9)
        self._added: int | None = None  # bytes since the folder was looked at; None: not yet
        self._warned = False

    def video(self, source: ClipSource, fps: float, max_frames: int) -> Video:
        """:func:`verl_ext.data.media.read_video`, remembered. Raises what it raises; errors are not remembered."""
        settings = {"kind": "video", "fps": fps, "max_frames": max_frames}

        def decode() -> tuple[np.ndarray, dict[str, Any]]:
            video = read_video(source, fps, max_frames, self._seconds)
            return video.frames_TCHW.numpy(), {"fps": video.fps}

        frames, facts = self._get(source, settings, decode)
        return Video(torch.from_numpy(frames), facts["fps"])

    def audio(self, source: ClipSource, sampling_rate: int, max_seconds: float) -> np.ndarray:
        """:func:`verl_ext.data.media.read_audio`, remembered. Raises what it raises; errors are not remembered."""
        settings = {"kind": "audio", "sampling_rate": sampling_rate, "max_seconds": max_seconds}

        def decode() -> tuple[np.ndarray, dict[str, Any]]:
            return read_audio(source, sampling_rate, max_seconds, self._seconds), {}

        return self._get(source, settings, decode)[0]

    def _get(
        self, source: ClipSource, settings: dict[str, Any], decode: Callable[[], tuple[np.ndarray, dict[str, Any]]]
    ) -> tuple[np.ndarray, dict[str, Any]]:
        clip = bounded(lambda: identity(source), source, self._seconds)
        if clip is None:
            return decode()  # which says what is wrong with it
        text = json.dumps([LAYOUT, av.__version__, clip, settings], sort_keys=True)
        key = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        file = self._folder / key[:2] / f"{key}{_CLIP}"
        found = self._load(file)
        if found is None:
            with self._lock(key):
                found = self._load(file)  # another process may have decoded it by now
                if found is None:
                    found = decode()
                    self._store(file, *found)
        return found

    def _load(self, file: Path) -> tuple[np.ndarray, dict[str, Any]] | None:
        try:
            found = read_clip(file)
            os.utime(file)  # the time of its last use
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._warn(f"{file} is damaged and will be written again: {error}")
            with suppress(OSError):
                file.unlink()
            return None
        return found

    def _store(self, file: Path, array: np.ndarray, facts: dict[str, Any]) -> None:
        part = file.with_name(f"{uuid4().hex}{_PART}")
        if array.nbytes > self._limit // 10:
            self._warn(f"a clip of {array.nbytes >> 20} MiB is not cached: it is larger than a tenth of media.cache_gb")
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self._folder).free < array.nbytes + FREE_BYTES:
                self._warn(f"{self._folder}: the disk is nearly full; clips are not cached and are decoded every time")
                return
            write_clip(part, array, facts)
            os.replace(part, file)
            if self._added is None or self._added + array.nbytes > self._limit // 100:
                evict(self._folder, self._limit)
                self._added = 0
            else:
                self._added += array.nbytes
        except OSError as error:
            self._warn(f"{self._folder}: {error}; clips are not cached and are decoded every time")
            with suppress(OSError):
                part.unlink()

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        """One decoding of a clip at a time, over all processes; without locks where the folder cannot have them."""
        descriptor = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._folder / f"{int(key[:8], 16) % _LOCKS}.lock", os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            self._warn(f"{self._folder}: {error}; several processes may decode the same clip")
        try:
            yield
        finally:
            if descriptor is not None:
                with suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_UN)  # a fork may hold the descriptor, too
                os.close(descriptor)

    def _warn(self, message: str) -> None:
        if not self._warned:
            _log.warning("clip cache: %s", message)
            self._warned = True


def identity(source: ClipSource) -> list[Any] | None:
    """What tells a clip from any other: a file by path, size and time of its last change, bytes by their digest.

    An embedded clip is its shard and its place there, so that nothing is read to recall it. None if there is no file.
    """
    if isinstance(source, ClipBytes):
        return ["bytes", source.sha256]
    embedded = EmbeddedClip.parse(source)
    path = os.path.abspath(embedded.shard if embedded else source)
    try:
        state = os.stat(path)
    except OSError:
        return None
    place = [embedded.column, embedded.row, embedded.item] if embedded else []
    return [path, state.st_size, state.st_mtime_ns, *place]


def write_clip(file: Path, array: np.ndarray, facts: dict[str, Any]) -> None:
    """A line of JSON, then the numbers in C order."""
    data = memoryview(np.ascontiguousarray(array)).cast("B")
    header = {"dtype": array.dtype.str, "shape": array.shape, "facts": facts, "crc32": zlib.crc32(data)}
    with file.open("xb") as out:
        out.write(json.dumps(header).encode() + b"\n")
        out.write(data)


def read_clip(file: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """What :func:`write_clip` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError, KeyError, TypeError: it is not as it was written.
    """
    with file.open("rb") as written:
        line = written.readline(10_000)
        header = json.loads(line)
        array = np.empty(header["shape"], _TYPES[header["dtype"]])
        if os.fstat(written.fileno()).st_size != len(line) + array.nbytes:
            raise ValueError("the file length does not match its header")
        data = memoryview(array.reshape(-1)).cast("B")
        written.readinto(data)
    if zlib.crc32(data) != header["crc32"]:
        raise ValueError("the checksum does not match")
    return array, header["facts"]


_TYPES = {np.dtype(kind).str: kind for kind in (np.uint8, np.float32)}


def evict(folder: Path, limit: int) -> None:
    """Where the clips have more than `limit` bytes, remove those used longest ago, down to nine tenths of it."""
    clips, total, now = [], 0, time.time()
    for file in folder.glob("??/*"):
        with suppress(OSError):  # gone meanwhile
            state = file.stat()
            if file.suffix == _CLIP:
                clips.append((state.st_mtime_ns, file, state.st_size))
                total += state.st_size
            elif now - state.st_mtime > _PART_SECONDS:
                file.unlink()  # of a process that was killed
    if total <= limit:
        return
    for _, file, size in sorted(clips):
        if total <= limit * 9 // 10:
            break
        with suppress(OSError):
            file.unlink()
        total -= size
