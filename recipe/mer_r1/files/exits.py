"""The exit codes of all commands (docs/commands.md), and the block that turns an ending into one of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

OK = 0
FAILED = 1
"""The command could be started, and it failed or found a fault."""
INPUT = 2
"""Something that was given is wrong: an option, a key, a file. Nothing was started."""
STOPPED = os.EX_TEMPFAIL
"""75: a run was asked to stop and has saved its step."""
INTERRUPTED = 130
"""Ctrl-C."""

AGAIN = "interrupted; run the same command again to continue"


@contextmanager
def plain(program: str, interrupted: str = AGAIN) -> Iterator[None]:
    """Inside, Ctrl-C ends with INTERRUPTED and a line, and `SystemExit("message")` with INPUT instead of FAILED."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"{program}: {interrupted}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except SystemExit as error:
        if not isinstance(error.code, str):
            raise
        print(error.code, file=sys.stderr)
        raise SystemExit(INPUT) from None


@contextmanager
def input_faults(program: str, *kinds: type[Exception]) -> Iterator[None]:
    """Inside, an error of these kinds ends with INPUT and its message in a line, without a traceback."""
    try:
        yield
    except kinds as error:
        print(f"{program}: {error}", file=sys.stderr)
        raise SystemExit(INPUT) from error
