"""Several calls at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


async def for_each(items: Sequence[Item], work: Callable[[Item], Awaitable[None]], concurrency: int) -> None:
    """Do the work for every item, `concurrency` items at a time.

    Raises:
        Exception: the first one that the work raises; the other items are given up.
    """
    waiting = iter(items)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(items))):
                group.create_task(_worker(waiting, work))
    except ExceptionGroup as group:
        raise group.exceptions[0] from None  # the first one cancelled the other workers


async def _worker(waiting: Iterator[Item], work: Callable[[Item], Awaitable[None]]) -> None:
    for item in waiting:  # one iterator for all workers: each takes the next
        await work(item)
