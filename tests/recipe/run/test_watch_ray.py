"""Watching for deaths in a real Ray: who was killed is named, in bounded time; who was asked to end is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.seam
HERE = Path(__file__).parent
ROOT = HERE.parents[2]


@pytest.fixture(scope="module")
def cluster():
    import ray

    here = {"env_vars": {"PYTHONPATH": f"{HERE}{os.pathsep}{ROOT}"}}  # where workers find Worker
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

    def train(self, seconds: float) -> None:
        """As the task runner does, which looks for dead engines."""
        from recipe.mer_r1.run import watch

        watch.POLL_SECONDS = 0.2
        with watch.engine_deaths():
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


@pytest.fixture
def told(cluster):
    """What the trainer's process has told is forgotten."""
    from ray.experimental import internal_kv

    from recipe.mer_r1.run import watch

    yield
    internal_kv._internal_kv_del(watch._told_key())


def test_the_trainers_process_tells_the_driver_of_a_dead_engine(cluster, told, monkeypatch, capsys):
    """The driver asks no server: it learns of the engine although its own look is blind, and ends the wait."""
    from recipe.mer_r1.run import watch

    monkeypatch.setattr(watch, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(watch, "_dead_engines", lambda: pytest.fail("the driver must not call servers"))
    server, _ = start(cluster, "vllm_server_1_0")
    trainer, _ = start(cluster, "trainer")
    cluster.get(server.fail_engine.remote())
    assert "the vLLM engine of vllm_server_1_0" not in watch._told_engines()
    before = time.monotonic()
    named = "the vLLM engine of vllm_server_1_0 has died: see vLLM's messages in the run's output"
    with pytest.raises(watch.DeadProcessError, match=named), watch.deaths(1.0):
        cluster.get(trainer.train.remote(60))
    assert time.monotonic() - before < 20
    assert capsys.readouterr().err.count("main_ppo: the vLLM engine of vllm_server_1_0 has died") == 1


def test_only_engines_of_this_job_are_told(cluster, told):
    """Other jobs may share the cluster."""
    from ray.experimental import internal_kv

    from recipe.mer_r1.run import watch

    job = cluster.get_runtime_context().get_job_id()
    assert watch._told_engines() == {}
    other = watch._told_key().replace(job.encode(), b"ff" + job[2:].encode())
    assert other != watch._told_key()
    internal_kv._internal_kv_put(other, json.dumps({"theirs": "gone"}).encode())
    assert watch._told_engines() == {}
    internal_kv._internal_kv_put(watch._told_key(), json.dumps({"ours": "gone"}).encode())
    assert watch._told_engines() == {"ours": "gone"}


def test_the_driver_does_not_import_vllm():
    """It takes seconds and half a gigabyte."""
    code = (
        "import sys, recipe.mer_r1.main_ppo, recipe.mer_r1.run.watch, recipe.mer_r1.training.task_runner\n"
        "print('verl' in sys.modules, 'vllm' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VERL_PLATFORM": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["True", "False"]


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
    with pytest.raises(watch.DeadProcessError, match="later"), watch.deaths(3.0):
        kill_and_wait(cluster, later[1], waits[0], after=1)
    assert (
        capsys.readouterr().out.count("could not check for dead workers, will try again: ConnectionError('busy')") == 2
    )
