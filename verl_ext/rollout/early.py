"""Processes of the rollout that start while the actor is built.

verl starts one Ray actor after the other, and each imports torch, transformers, verl and vLLM for 5 to 9 seconds. Here
the actors of vLLM's servers and of the agent loop are made first, without their arguments, so that they import while
others work; verl's own places then only hand the arguments over. For a machine alone: verl decides the node of an actor
when it makes it.
"""

from __future__ import annotations

from typing import Any

import ray


def late(worker: type) -> type:
    """The class with its ``__init__`` put off to ``begin``."""

    class Late(worker):
        def __init__(self) -> None:
            pass

        def begin(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)

    Late.__name__ = Late.__qualname__ = worker.__name__
    return Late


class Early:
    """Stands for a Ray actor's class: ``options(…).remote(…)`` takes an actor that was started, or makes one.

    Args:
        worker: the actor's class.
    """

    def __init__(self, worker: type):
        self.worker = worker
        self._started: dict[str | None, list[Any]] = {}
        self._options: dict[str, Any] = {}

    def start(self, name: str | None = None, **options: Any) -> None:
        """Start an actor without its arguments, for whoever asks for this name; None: for any other name."""
        named = options if name is None else {**options, "name": name}
        actor = ray.remote(late(self.worker)).options(**named).remote()
        self._started.setdefault(name, []).append(actor)

    def options(self, **options: Any) -> Early:
        chosen = Early(self.worker)
        chosen._started, chosen._options = self._started, options
        return chosen

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        name = self._options.get("name")
        started = self._started.get(name) or self._started.get(None)
        if not started:
            return ray.remote(self.worker).options(**self._options).remote(*args, **kwargs)
        actor = started.pop(0)
        # Waited for: an asynchronous actor may run what is called next before it has the arguments of this call.
        ray.get(actor.begin.remote(*args, **kwargs))
        return actor
