"""Watching for deaths, with made ones: an error is explained, a wait without end is ended, Ctrl-C stays Ctrl-C."""

from __future__ import annotations

import time

import pytest

pytestmark = pytest.mark.seam


@pytest.fixture
def watch(monkeypatch):
    """The module, polling fast; `watch.dying` maps who is dead to how."""
    import ray

    from recipe.mer_r1.run import watch

    dying: dict[str, str] = {}
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(watch, "_dead_actors", lambda: dict(dying))
    monkeypatch.setattr(watch, "_dead_engines", dict)
    monkeypatch.setattr(watch, "_told_engines", dict)
    monkeypatch.setattr(watch, "dying", dying, raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    return watch


def fail(error: BaseException, after: float = 0) -> None:
    time.sleep(after)
    raise error


def wait_for_ever() -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        time.sleep(0.01)
    pytest.fail("nothing ended the wait")


def test_an_error_after_a_death_names_the_dead(watch) -> None:
    watch.dying["AgentLoop"] = "killed"
    with pytest.raises(watch.DeadProcessError, match="AgentLoop has died: killed") as caught, watch.deaths(60):
        fail(RuntimeError("no materializable trajectories"))
    assert str(caught.value.__cause__) == "no materializable trajectories"
    assert "continue from the last checkpoint" in str(caught.value)


def test_an_error_in_the_trainer_names_the_dead_engine(watch, monkeypatch) -> None:
    with pytest.raises(RuntimeError, match="its own"), watch.engine_deaths():
        fail(RuntimeError("its own"))
    monkeypatch.setattr(watch, "_dead_engines", lambda: {"the vLLM engine of vllm_server_0_0": "see above"})
    with pytest.raises(watch.DeadProcessError, match="vllm_server_0_0 has died: see above"), watch.engine_deaths():
        fail(RuntimeError("no materializable trajectories"))


def test_a_wait_for_the_dead_is_ended(watch, capsys) -> None:
    watch.dying["vLLM"] = "killed"
    before = time.monotonic()
    late = r"did not end within 0.2 s after that \(mer_r1.dead_process_seconds\)"
    with pytest.raises(watch.DeadProcessError, match=late), watch.deaths(0.2):
        wait_for_ever()
    assert 0.2 <= time.monotonic() - before < 5
    assert capsys.readouterr().err.count("main_ppo: vLLM has died: killed") == 1


def test_a_run_in_which_nobody_dies_is_left_alone(watch) -> None:
    with watch.deaths(0):
        time.sleep(0.1)
    with pytest.raises(ValueError, match="its own"), watch.deaths(0):
        fail(ValueError("its own"))


def test_ctrl_c_stays_ctrl_c(watch) -> None:
    watch.dying["vLLM"] = "killed"
    with pytest.raises(KeyboardInterrupt), watch.deaths(60):
        fail(KeyboardInterrupt(), after=0.1)


def test_only_deaths_that_nobody_asked_for_count(watch) -> None:
    from ray.core.generated.common_pb2 import ActorDeathCause, ActorDiedErrorContext, OomContext

    def died(reason, text=""):
        return ActorDeathCause(actor_died_error_context=ActorDiedErrorContext(reason=reason, error_message=text))

    reasons = ActorDiedErrorContext.Reason
    killed = "The worker died. Some common causes include: …"
    assert watch._unasked(died(reasons.WORKER_DIED, killed)) == "The worker died."
    assert watch._unasked(died(reasons.RAY_KILL)) is None
    assert watch._unasked(died(reasons.OUT_OF_SCOPE)) is None
    for_memory = ActorDeathCause(oom_context=OomContext(error_message="Task was killed due to the node running low"))
    assert watch._unasked(for_memory) == "Ray killed it, because the machine's memory was nearly full"
