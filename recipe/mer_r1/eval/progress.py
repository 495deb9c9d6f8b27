"""How far a long evaluation is: a bar on a terminal, a line now and then where output goes to a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

EVERY = 30.0
"""Seconds between two lines of a file."""


@contextmanager
def progress(what: str, total: int, done: int = 0) -> Iterator[Callable[[], None]]:
    """Yields what is to be called for each thing done; `done` of them were there before."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console, what, total, done)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda: bar.advance(task)


def _lines(console: Console, what: str, total: int, before: int) -> Callable[[], None]:
    start = said = time.monotonic()
    done = before

    def advance() -> None:
        nonlocal said, done
        done += 1
        now = time.monotonic()
        if now - said >= EVERY or done == total:
            said = now
            left = (total - done) * (now - start) / (done - before)
            console.print(f"{what} {done}/{total}, about {left:.0f} s left", highlight=False)

    return advance
