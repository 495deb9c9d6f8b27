"""Processes of the rollout that start while the actor is built, and whose handles import nothing.

verl starts one Ray actor after the other, and each imports torch, transformers, verl and vLLM for 5 to 9 seconds. Here
the actors of vLLM's servers and of the agent loop are made first, without their arguments, so that they import while
others work; verl's own places then only hand the arguments over. For a machine alone: verl decides the node of an actor
when it makes it.

Who gets the handle of a Ray actor imports its class. An actor here only holds the object whose methods it has, so its
own class is light, and a process such as verl's load balancer does not import vLLM.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import ray


class Holder:
    """An actor that holds an object, and makes it when it is told how."""

    _held: Any = None

    def prepare(self, module: str) -> None:
        """Import what the object needs."""
        importlib.import_module(module)

    def begin(self, module: str, name: str, args: tuple, kwargs: dict[str, Any]) -> None:
        """Make the object."""
        self._held = getattr(importlib.import_module(module), name)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._held, name)


def holder(worker: type) -> type:
    """The class of an actor that has the methods of ``worker``; importing and pickling it imports nothing."""
    methods = inspect.getmembers(worker, inspect.isfunction)
    passed = {name: _passed_on(name, method) for name, method in methods if not name.startswith("__")}
    return type(worker.__name__, (Holder,), passed)


def _passed_on(name: str, method: Callable) -> Callable:
    if inspect.iscoroutinefunction(method):

        async def call(self: Holder, *args: Any, **kwargs: Any) -> Any:
            return await getattr(self._held, name)(*args, **kwargs)
    else:

        def call(self: Holder, *args: Any, **kwargs: Any) -> Any:
            return getattr(self._held, name)(*args, **kwargs)

    return call


class Early:
    """Stands for a Ray actor's class: ``options(…).remote(…)`` takes an actor that was started, or makes one.

    Args:
        worker: the class of the object, importable by its module and name.
    """

    def __init__(self, worker: type):
        self.worker = worker
        self._started: dict[str | None, list[Any]] = {}
        self._options: dict[str, Any] = {}

    def start(self, name: str | None = None, **options: Any) -> None:
        """Start an actor without its arguments, for whoever asks for this name; None: for any other name."""
        actor = self._actor(options if name is None else {**options, "name": name})
        actor.prepare.remote(self.worker.__module__)
        self._started.setdefault(name, []).append(actor)

    def end_untaken(self) -> list[str]:
        """End the actors that nobody has asked for; returns what they were started for."""
        left = [(name or "any name", actor) for name, actors in self._started.items() for actor in actors]
        for _, actor in left:
            ray.kill(actor)
        self._started.clear()
        return [name for name, _ in left]

    def options(self, **options: Any) -> Early:
        chosen = Early(self.worker)
        chosen._started, chosen._options = self._started, options
        return chosen

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        started = self._started.get(self._options.get("name")) or self._started.get(None)
        actor = started.pop(0) if started else self._actor(self._options)
        # Waited for: an asynchronous actor may run what is called next before it has the arguments of this call.
        ray.get(actor.begin.remote(self.worker.__module__, self.worker.__name__, args, kwargs))
        return actor

    def _actor(self, options: dict[str, Any]) -> Any:
        return ray.remote(holder(self.worker)).options(**options).remote()
