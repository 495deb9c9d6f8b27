"""A limit on the time that reading a clip may take: a file system that does not answer must not stop a run silently."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from verl_ext.data.source import ClipSource, MediaError

SECONDS = 120.0
"""Decoding a clip of some seconds takes some tenths of one."""

Result = TypeVar("Result")


class _Reader(threading.Thread):
    """A thread that makes calls, one at a time. It does not keep the process from ending."""

    def __init__(self) -> None:
        super().__init__(name="read a clip", daemon=True)
        self.calls: SimpleQueue[Callable[[], Any]] = SimpleQueue()
        self.answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self.start()

    def run(self) -> None:
        while True:
            call = self.calls.get()
            try:
                answer = call(), None
            except BaseException as error:
                answer = None, error
            self.answers.put(answer)
            del call, answer  # a clip must not stay in memory until the next one


# Threads that wait for a call. A new thread for each clip would cost a tenth of the time of a small one.
_idle: list[_Reader] = []
os.register_at_fork(after_in_child=_idle.clear)  # a child has none of its parent's threads


def bounded(call: Callable[[], Result], source: ClipSource, seconds: float = SECONDS) -> Result:
    """What `call` returns or raises.

    `call` runs in another thread, because nothing in a process can end a read that the system does not end: after
    `seconds` that thread is left alone.

    Raises:
        MediaError: `call` did not return within `seconds`.
    """
    try:
        reader = _idle.pop()
    except IndexError:
        reader = _Reader()
    reader.calls.put(call)
    try:
        result, error = reader.answers.get(timeout=seconds)
    except Empty:
        raise MediaError(
            f"reading {source} did not end within {seconds:g} s (data.media.decode_seconds). Check that its file "
            "system answers; re-encode the clip or drop its row; or raise the limit if the machine is very busy.",
            "decoder_hung",
        ) from None
    _idle.append(reader)
    if error is not None:
        raise error
    return result
