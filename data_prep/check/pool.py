"""Tasks in worker processes of which any may crash or hang without harm to the others."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from typing import Any, Generic, TypeVar

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from data_prep.clip import CorpusError

Task = TypeVar("Task")
Result = TypeVar("Result")

_AHEAD = 4  # tasks a worker that are handed out at a time: memory stays the same however many there are


@dataclass(frozen=True, slots=True)
class Lost:
    """A task without result. `kind` is decoder_crashed or decoder_hung."""

    kind: str
    detail: str


@dataclass(frozen=True)
class Pool(Generic[Task, Result]):
    """Runs `work` on tasks in `workers` fresh processes, each set up by `start(*arguments)`."""

    work: Callable[[Any], Result]
    workers: int
    timeout: float
    """Seconds for a task, counted from its start."""
    start: Callable[..., None]
    arguments: tuple[Any, ...]

    def run(self, tasks: Iterable[tuple[Task, Any]]) -> Iterator[tuple[Task, Result | Lost]]:
        """(what a task is for, its argument) → (what it was for, its result or how it was lost), as they end.

        Raises CorpusError where no worker is left.
        """
        # Fresh processes: this one has threads, with which a fork does not go well.
        pool = ProcessPool(self.workers, 0, self.start, self.arguments, get_context("spawn"))
        coming, running = iter(tasks), {}
        try:
            while True:
                for task, argument in islice(coming, self.workers * _AHEAD - len(running)):
                    running[pool.schedule(self.work, (argument,), timeout=self.timeout)] = task
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), self._result(future)
        finally:
            pool.stop()
            pool.join()

    def _result(self, future: ProcessFuture) -> Result | Lost:
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, TimeoutError):
            return Lost("decoder_hung", f"not finished after {self.timeout:g} s")
        if isinstance(error, ProcessExpired):
            return Lost("decoder_crashed", _ending(error.exitcode))
        if isinstance(error, BrokenProcessPool):
            raise CorpusError(
                f"the worker processes died ({error}), perhaps out of memory; run the same command again to continue"
            ) from error
        return Lost("decoder_crashed", f"{type(error).__name__}: {error}")


def _ending(code: int) -> str:
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"exit code {code}"
