"""How far a long job is: a bar on a terminal, a line now and then where output goes to a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[..., None]
"""Called with how many more are done, one by default."""
EVERY = 30.0
"""Seconds between two lines of a file."""


@contextmanager
def progress(what: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Yields what is to be called when one more thing is done, or several; `done` of them were there before."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console, what, total, done)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda number=1: bar.advance(task, number)


def _lines(console: Console, what: str, total: int, before: int) -> Advance:
    start = said = time.monotonic()
    done = before

    def advance(number: int = 1) -> None:
        nonlocal said, done
        done += number
        now = time.monotonic()
        if now - said >= EVERY or done == total:
            said = now
            left = (total - done) * (now - start) / (done - before)
            console.print(f"{what} {done}/{total}, about {left:.0f} s left", highlight=False)

    return advance
