"""What an actor that starts before its arguments are known passes on, and what its class brings with it."""

from __future__ import annotations

import asyncio
import base64
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from early_workers import AsyncWorker, Worker

ROOT = Path(__file__).parents[3]


def begun(worker: type, *args: Any, **kwargs: Any) -> Any:
    from verl_ext.rollout.early import holder

    actor = holder(worker)()
    actor.begin(worker.__module__, worker.__name__, args, kwargs)
    return actor


def test_methods_are_passed_on_with_their_values():
    actor = begun(Worker, 3, "b", key="v")
    assert actor.arguments() == ((3, "b"), {"key": "v"})
    assert actor.scaled(4) == 8
    assert actor.scaled(4, by=5) == 20
    assert actor._private() == "private of 3"
    with pytest.raises(TypeError, match="unexpected keyword argument 'times'"):
        actor.scaled(4, times=2)


def test_coroutine_functions_stay_what_they_are():
    """Ray makes an asynchronous actor of a class that has one."""
    from verl_ext.rollout.early import holder

    cls = holder(AsyncWorker)
    assert cls.__name__ == "AsyncWorker"
    assert inspect.iscoroutinefunction(cls.later)
    assert not inspect.iscoroutinefunction(cls.scaled)
    assert not any(inspect.iscoroutinefunction(method) for _, method in inspect.getmembers(holder(Worker)))
    assert asyncio.run(begun(AsyncWorker, 7).later(1)) == (2, (7,))


def test_attributes_are_those_of_the_held_object():
    actor = begun(Worker)
    assert actor.settings is actor._held.settings
    with pytest.raises(AttributeError, match="missing"):
        _ = actor.missing


def test_before_it_begins_nothing_is_there():
    from verl_ext.rollout.early import holder

    actor = holder(Worker)()
    for name in ("settings", "engine"):
        with pytest.raises(AttributeError, match=name):
            getattr(actor, name)
    with pytest.raises(AttributeError):
        actor.scaled(4)
    actor.prepare("colorsys")
    assert "colorsys" in sys.modules
    assert actor._held is None


@pytest.mark.seam
def test_an_engine_that_was_asked_to_end_is_not_seen_again():
    """`task_runner` and `watch` call these on the holder; what is set on it hides what is held."""
    from recipe.mer_r1.run.watch import _errored, shut_engine_down
    from verl_ext.rollout.early import holder

    for server in (holder(Worker)(), begun(Worker)):  # not begun; without an engine
        assert _errored(server) is False
        shut_engine_down(server)
    server = begun(Worker)
    server.has_engine(True)
    assert _errored(server) is True
    shut_engine_down(server)
    shut_engine_down(server)
    assert server.times_asked_to_end() == 1
    assert _errored(server) is False


@pytest.mark.slow
def test_a_pickled_holder_does_not_import_the_class_of_the_object(tmp_path):
    """Nor what that class' module imports: as a process sees that gets the handle of an actor."""
    (tmp_path / "heavy.py").write_text(
        "import wave\n\nclass Server:\n    def port(self):\n        return 80\n    async def ask(self):\n        pass\n"
    )
    write = (
        "import base64, heavy; from ray import cloudpickle; from verl_ext.rollout.early import holder\n"
        "print(base64.b64encode(cloudpickle.dumps(holder(heavy.Server))).decode())"
    )
    read = (
        "import base64, sys; from ray import cloudpickle\n"
        "cls = cloudpickle.loads(base64.b64decode(sys.argv[1]))\n"
        "print(cls.__name__, hasattr(cls, 'port'), {'heavy', 'wave', 'torch', 'verl', 'vllm'} & set(sys.modules))\n"
        "actor = cls(); actor.begin('heavy', 'Server', (), {}); print(actor.port(), 'heavy' in sys.modules)"
    )

    def python(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
        done = subprocess.run(
            [sys.executable, "-c", *arguments], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.strip()

    pickled = python(write)
    assert b"heavy" not in base64.b64decode(pickled)
    assert python(read, pickled).splitlines() == ["Server True set()", "80 True"]
