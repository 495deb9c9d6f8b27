"""Actors that start before their arguments are known: methods, light handles, who takes which, and how they end."""

from __future__ import annotations

import asyncio
import base64
import inspect
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


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


def begun(worker: type, *args: Any, **kwargs: Any) -> Any:
    from verl_ext.rollout.early import holder

    actor = holder(worker)()
    actor.begin(__name__, worker.__name__, args, kwargs)
    return actor


# -- the holder, without Ray -------------------------------------------------------------------------------------------


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
    from recipe.mer_r1.run.watch import _errored
    from recipe.mer_r1.training.task_runner import _shut_engine_down
    from verl_ext.rollout.early import holder

    for server in (holder(Worker)(), begun(Worker)):  # not begun; without an engine
        assert _errored(server) is False
        _shut_engine_down(server)
    server = begun(Worker)
    server.has_engine(True)
    assert _errored(server) is True
    _shut_engine_down(server)
    _shut_engine_down(server)
    assert server.times_asked_to_end() == 1
    assert _errored(server) is False


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


# -- in a real Ray -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def session():
    import ray

    yield ray
    ray.shutdown()


@pytest.fixture
def cluster(session):
    if not session.is_initialized():
        here = {"env_vars": {"PYTHONPATH": f"{HERE}{os.pathsep}{ROOT}"}}  # where workers find this file
        session.init(num_cpus=4, include_dashboard=False, log_to_driver=False, namespace="early", runtime_env=here)
    return session


def pid(ray: Any, actor: Any) -> int:
    return ray.get(actor.pid.remote())


def process(ray: Any, actor: Any) -> int:
    """Also of an actor that has not begun."""
    from ray._private import state

    while not (found := state.actors(actor_id=actor._actor_id.hex())["Pid"]):
        time.sleep(0.05)
    return found


@pytest.mark.seam
def test_a_started_actor_is_taken_by_its_name_and_once(cluster):
    from verl_ext.rollout.early import Early

    early = Early(Worker)
    early.start("server_0", num_cpus=0)
    (started,) = early._started["server_0"]
    other = early.options(name="server_1", num_cpus=0).remote("other")
    taken = early.options(name="server_0", max_concurrency=3).remote(1, key="v")
    again = early.options(num_cpus=0).remote("again")
    assert process(cluster, started) == pid(cluster, taken)
    assert len({pid(cluster, actor) for actor in (other, taken, again)}) == 3
    assert cluster.get(taken.arguments.remote()) == ((1,), {"key": "v"})
    assert cluster.get(other.arguments.remote()) == (("other",), {})
    assert cluster.get(again.arguments.remote()) == (("again",), {})
    assert cluster.get(cluster.get_actor("server_0").scaled.remote(4, by=3)) == 12


@pytest.mark.seam
def test_one_without_a_name_is_for_any_name(cluster):
    from verl_ext.rollout.early import Early

    early = Early(Worker)
    early.start(num_cpus=0)
    (started,) = early._started[None]
    first, second = (early.options(name=f"worker_{place}", num_cpus=0).remote(place) for place in range(2))
    assert process(cluster, started) == pid(cluster, first) != pid(cluster, second)
    assert [cluster.get(actor._private.remote()) for actor in (first, second)] == ["private of 0", "private of 1"]


@pytest.mark.seam
def test_without_a_started_one_an_actor_is_made_with_the_options(cluster):
    from verl_ext.rollout.early import Early

    environment = {"env_vars": {"EARLY_MADE": "yes"}}
    actor = Early(Worker).options(name="made", num_cpus=0, runtime_env=environment).remote("new")
    assert cluster.get(cluster.get_actor("made").arguments.remote()) == (("new",), {})
    assert cluster.get(actor.environment.remote("EARLY_MADE")) == "yes"


@pytest.mark.seam
@pytest.mark.parametrize("start", [True, False])
def test_an_error_of_the_object_reaches_who_asks(cluster, start):
    from verl_ext.rollout.early import Early

    early = Early(Worker)
    if start:
        early.start("fails", num_cpus=0)
    with pytest.raises(ValueError, match="no model at /nowhere"):
        early.options(name="fails" if start else "fails_new", num_cpus=0).remote(fail="/nowhere")


@pytest.mark.seam
def test_a_call_right_after_sees_the_arguments(cluster):
    """An asynchronous actor runs calls in any order."""
    from verl_ext.rollout.early import Early

    early = Early(AsyncWorker)
    early.start("async", num_cpus=0, max_concurrency=100)
    for place, name in enumerate(("async", "async_new")):
        actor = early.options(name=name, num_cpus=0, max_concurrency=100).remote(place)
        assert cluster.get([actor.later.remote(value) for value in range(20)]) == [
            (value + 1, (place,)) for value in range(20)
        ]


@pytest.mark.seam
def test_the_run_looks_at_engines_through_the_holder(cluster):
    from recipe.mer_r1.run import watch
    from recipe.mer_r1.training import task_runner
    from verl_ext.rollout.early import Early

    server = Early(AsyncWorker).options(name="vllm_server_7_0", num_cpus=0).remote()
    cluster.get(server.has_engine.remote(True))
    assert watch._dead_engines() == {"the vLLM engine of vllm_server_7_0": "see vLLM's log above"}
    task_runner.stop_rollout_servers()
    task_runner.stop_rollout_servers()
    assert watch._dead_engines() == {}
    assert cluster.get(server.times_asked_to_end.remote()) == 1


@pytest.mark.seam
def test_actors_that_were_not_taken_end_with_ray(cluster):
    from verl_ext.rollout.early import Early

    early = Early(AsyncWorker)
    for name in ("left_0", None):
        early.start(name, num_cpus=0)
    left = [process(cluster, actor) for actors in early._started.values() for actor in actors]
    assert len(left) == 2
    assert all(running(one) for one in left)
    cluster.shutdown()
    deadline = time.monotonic() + 20
    while any(running(one) for one in left) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(running(one) for one in left)


def running(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
