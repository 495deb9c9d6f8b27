"""Classes of actors for the tests of early starts; importable by Ray's workers, too."""

from __future__ import annotations

import asyncio
import os
from typing import Any


class Worker:
    """An object as verl's actors hold them."""

    engine: Any = None

    def __init__(self, *args: Any, **kwargs: Any):
        if kwargs.get("fail"):
            raise ValueError(f"no model at {kwargs['fail']}")
        self.args, self.kwargs, self.asked_to_end = args, kwargs, 0
        self.settings = {"lr": 0.5}

    def arguments(self) -> tuple[tuple, dict[str, Any]]:
        return self.args, self.kwargs

    def scaled(self, value: int, *, by: int = 2) -> int:
        return value * by

    def _private(self) -> str:
        return f"private of {self.args[0]}"

    def pid(self) -> int:
        return os.getpid()

    def environment(self, name: str) -> str | None:
        return os.environ.get(name)

    def has_engine(self, errored: bool) -> None:
        self.engine = Engine(errored)

    def times_asked_to_end(self) -> int:
        return self.engine.asked


class AsyncWorker(Worker):
    """With a method that Ray runs in an event loop."""

    async def later(self, value: int) -> tuple[int, tuple]:
        await asyncio.sleep(0)
        return value + 1, self.args


class Engine:
    def __init__(self, errored: bool):
        self.errored, self.asked = errored, 0

    def shutdown(self, timeout: float) -> None:
        self.asked += 1
