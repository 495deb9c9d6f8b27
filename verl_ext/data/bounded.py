"""A limit on the time that reading a clip may take: a file system that does not answer must not stop a run silently."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from verl_ext.data.source import ClipSource, MediaError

SECONDS = 120.0
"""Decoding a clip of some seconds takes some tenths of one."""

Result = TypeVar("Result")


def bounded(call: Callable[[], Result], source: ClipSource, seconds: float = SECONDS) -> Result:
    """What `call` returns or raises.

    `call` runs in a thread, because nothing in the process can end a read that the system does not end: after `seconds`
    the thread is left alone. It does not keep the process from ending.

    Raises:
        MediaError: `call` did not return within `seconds`.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="read a clip", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise MediaError(
            f"reading {source} did not end within {seconds:g} s (data.media.decode_seconds). Check that its file system "
            "answers; re-encode the clip or drop its row; or raise the limit if the machine is very busy.",
            "decoder_hung",
        )
    return results[0]
