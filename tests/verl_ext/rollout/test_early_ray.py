"""Actors that start before their arguments are known, in a real Ray: who takes which, and how they end."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from early_workers import AsyncWorker, Worker

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


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
    assert watch._dead_engines() == {"the vLLM engine of vllm_server_7_0": "see vLLM's messages in the run's output"}
    task_runner.stop_rollout_servers()
    task_runner.stop_rollout_servers()
    assert watch._dead_engines() == {}
    assert cluster.get(server.times_asked_to_end.remote()) == 1


@pytest.mark.seam
@pytest.mark.parametrize("with_ray", [False, True])
def test_actors_that_were_not_taken_end_when_told_or_with_ray(cluster, with_ray):
    from verl_ext.rollout.early import Early

    early = Early(AsyncWorker)
    for name in ("left_0", "taken_0", None):
        early.start(name, num_cpus=0)
    taken = early.options(name="taken_0", num_cpus=0).remote()
    left = [process(cluster, actor) for actors in early._started.values() for actor in actors]
    assert len(left) == 2
    assert all(running(one) for one in left)
    if with_ray:
        cluster.shutdown()
    else:
        assert early.end_untaken() == ["left_0", "any name"]
        assert early.end_untaken() == []
        assert running(process(cluster, taken))
    deadline = time.monotonic() + 20
    while any(running(one) for one in left) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(running(one) for one in left)


def running(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
