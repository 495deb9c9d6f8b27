"""Shows how far this process itself is, while its main thread works or waits for other processes."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console

from recipe.mer_r1.pipeline.progress import Status
from recipe.mer_r1.pipeline.screen import Screen
from recipe.mer_r1.run.output import Output

EVERY = 0.5
"""Seconds between two looks."""
_WARNING = re.compile(rb"WARNING: step \d+: [^\r\n]+")
_FAULTS = 3
"""Looks in a row that may fail, e.g. at a file that is being written, before no more is shown."""


@contextmanager
def shown(output: Output, name: str, title: str, look: Callable[[], Status]) -> Iterator[None]:
    """While inside, a line with the status; and every warning of the run's watch that its log gets.

    Where all output is on the screen (``verbose``), a line from time to time says how far the work is. A fault here
    never ends the work.

    Args:
        name: of the work, in the lines of a file.
        title: of the work, on a terminal.
        look: gives its status; called in a thread of its own.
    """
    start, ended = time.monotonic(), threading.Event()
    warnings = Warnings(output.log) if output.log else None
    # No line that is drawn anew, between others that it knows nothing of.
    console = output.console if output.log else Console(force_terminal=False)

    def tell() -> None:
        for line in warnings.new() if warnings else ():
            console.print(line, markup=False, highlight=False, soft_wrap=True, style="yellow")
        status = look()
        if output.log or status.done:
            screen.update(name, status, time.monotonic() - start)

    def work() -> None:
        faults = 0
        while not ended.wait(EVERY) and faults < _FAULTS:
            try:
                tell()
                faults = 0
            except Exception as error:
                faults += 1
                print(f"screen: {error!r}", flush=True)  # into the log

    with Screen({name: title}, console, alone=False) as screen:
        screen.begin(name, "", resumed=False)
        thread = threading.Thread(target=work, name="screen", daemon=True)
        thread.start()
        state = "stopped"
        try:
            yield
            state = "done"
        except (Exception, SystemExit) as error:
            # With a number, it was asked to stop; with a text, a check has found a fault.
            state = "stopped" if isinstance(error, SystemExit) and not isinstance(error.code, str) else "failed"
            raise
        finally:
            ended.set()
            thread.join()
            with suppress(Exception):
                tell()  # of the last moment
            screen.end(name, state, time.monotonic() - start)


class Warnings:
    """The warnings of :mod:`recipe.mer_r1.run.learning` in a log, from its present end on."""

    def __init__(self, log: Path):
        self._log, self._read = log, log.stat().st_size

    def new(self) -> list[str]:
        """Those of the complete lines that have come since the last call."""
        with self._log.open("rb") as file:
            file.seek(self._read)
            found = file.read()
        complete = found[: found.rfind(b"\n") + 1]
        self._read += len(complete)
        return [line.decode(errors="replace").strip() for line in _WARNING.findall(complete)]
