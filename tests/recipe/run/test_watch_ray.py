"""Watching for deaths in a real Ray: who was killed is named, in bounded time; who was asked to end is not."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.seam


@pytest.fixture(scope="module")
def cluster():
    import ray

    here = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}  # where workers find Worker
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, namespace="watched", runtime_env=here)
    yield ray
    ray.shutdown()


class Worker:
    """An actor as verl has them."""

    engine = None

    def pid(self) -> int:
        return os.getpid()

    def fail_engine(self) -> None:
        self.engine = type("Engine", (), {"errored": True})()

    def work(self, seconds: float) -> None:
        time.sleep(seconds)


def start(ray, name):
    """An actor; its handle keeps it alive."""
    actor = ray.remote(Worker).options(name=name, num_cpus=0).remote()
    return actor, ray.get(actor.pid.remote())


def kill_and_wait(ray, pid, other, after=0.0):
    """Kill a process, then wait for what another actor does."""
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    ray.get(other.work.remote(60))


def test_a_killed_actor_is_named_and_a_wait_for_another_ended(cluster, monkeypatch, capsys):
    """As when an agent loop dies: what waits is somewhere else, and would for ever."""
    from recipe.mer_r1.run import watch

    monkeypatch.setattr(watch, "POLL_SECONDS", 0.2)
    actors = {name: start(cluster, name) for name in ("rollout", "WorkerDict_0", "leaves")}
    cluster.kill(actors["leaves"][0])
    pid = actors["WorkerDict_0"][1]
    before = time.monotonic()
    named = rf"WorkerDict_0 \(process {pid}\) has died"
    with pytest.raises(watch.DeadProcessError, match=named) as caught, watch.deaths(1.0):
        kill_and_wait(cluster, pid, actors["rollout"][0])
    assert time.monotonic() - before < 20
    assert "The run did not end within 1 s after that" in str(caught.value)
    assert "leaves" not in str(caught.value)
    assert capsys.readouterr().err.count("main_ppo: WorkerDict_0") == 1


def test_a_dead_engine_is_named_though_its_server_lives(cluster):
    from recipe.mer_r1.run import watch

    server, _ = start(cluster, "vllm_server_0_0")
    assert "the vLLM engine of vllm_server_0_0" not in watch._dead_engines()
    cluster.get(server.fail_engine.remote())
    with pytest.raises(watch.DeadProcessError, match="engine of vllm_server_0_0 has died"), watch.engine_deaths():
        raise RuntimeError("no materializable trajectories")


def test_a_look_that_fails_is_not_the_last(cluster, monkeypatch, capsys):
    from recipe.mer_r1.run import watch

    looks = iter([ConnectionError("busy"), ConnectionError("busy")])
    real = watch._dead_actors

    def sometimes():
        error = next(looks, None)
        if error:
            raise error
        return real()

    monkeypatch.setattr(watch, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(watch, "_dead_actors", sometimes)
    later, waits = start(cluster, "later"), start(cluster, "waits")
    with pytest.raises(watch.DeadProcessError, match="later"), watch.deaths(0.5):
        kill_and_wait(cluster, later[1], waits[0], after=1)
    assert (
        capsys.readouterr().err.count("could not check for dead workers, will try again: ConnectionError('busy')") == 2
    )
