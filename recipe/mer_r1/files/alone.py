"""One process at a time in a folder, or at a piece of work."""

from __future__ import annotations

import errno
import fcntl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def take(lock: Path) -> TextIO | None:
    """The open file that holds the lock until it is closed, or its process has ended; None: another process has it.

    The folder of the lock file is made where it is missing. Some network file systems have no locks: there, no process
    is kept out, and a warning says so.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = lock.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise
        warnings.warn(f"{lock}: this file system has no locks; run one command at a time here", stacklevel=2)
    return file


@contextmanager
def alone(lock: Path, refusal: Exception) -> Iterator[None]:
    """While inside, no other process is inside with the same lock file.

    Raises:
        refusal: another process is.
    """
    file = take(lock)
    if file is None:
        raise refusal
    with file:
        yield
