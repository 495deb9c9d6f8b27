"""Ends a run in which a process has died: named aloud, in bounded time, whatever waits for it.

Most deaths end the run at once through Ray's own errors, which however say little of the cause (a dead vLLM engine
shows as "no materializable trajectories"). Others are waited for without an end: verl's replay buffer polls for the
answers of an agent loop that is gone, a weight transfer for an engine that no longer reads.
"""

from __future__ import annotations

import _thread
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray._private import state  # the public state API needs Ray's dashboard, which runs here do without
from ray.experimental import internal_kv

from recipe.mer_r1.run import output

POLL_SECONDS = 3
ENGINE_SECONDS = 15
"""Until vLLM kills an engine that was asked to end; on a busy machine its own 5 s are too few."""
SERVERS = "vllm_server"
"""How the names of verl's actors that hold a vLLM engine begin."""


class DeadProcessError(RuntimeError):
    """A process of the run has died; names each."""


@contextmanager
def deaths(seconds: float) -> Iterator[None]:
    """While inside (in the main thread), look on for actors and vLLM engines of this job that die.

    Args:
        seconds: that the run may take after a death to end by itself; then it is interrupted.

    Raises:
        DeadProcessError: instead of any error that follows a death.
    """
    looker, interrupted = _Looker(seconds), False
    looker.start()
    try:
        yield
    except BaseException as error:
        looker.ended.set()
        interrupted = isinstance(error, KeyboardInterrupt)
        if not interrupted and ray.is_initialized():
            looker.look()  # the error may have been faster
        if looker.found and (looker.overdue or not interrupted):
            raise DeadProcessError(looker.text()) from error
        raise
    finally:
        looker.ended.set()
        # Ray is shut down next, perhaps while it looks. After Ctrl-C nobody waits.
        looker.join(0.2 if interrupted else 2 * POLL_SECONDS)


@contextmanager
def engine_deaths() -> Iterator[None]:
    """In the trainer's process: while inside, look for vLLM engines that die, and tell the driver.

    An engine's death may end the work faster than the driver looks, and a server that has ended says nothing more. The
    driver does not look by itself: to call a server it would import vLLM.

    Raises:
        DeadProcessError: instead of an error that follows the death of an engine.
    """
    ended = threading.Event()
    threading.Thread(target=_tell_dead_engines, args=(ended,), name="engine deaths", daemon=True).start()
    try:
        yield
    except Exception as error:
        dead = _dead_engines()
        if dead:
            raise DeadProcessError(_text(dead)) from error
        raise
    finally:
        ended.set()


def _tell_dead_engines(ended: threading.Event) -> None:
    while not ended.wait(POLL_SECONDS):
        with suppress(Exception):  # of Ray, busy or at its end: the next look may see more
            if dead := _dead_engines():
                internal_kv._internal_kv_put(_told_key(), json.dumps(dead).encode(), overwrite=True)


def _told_engines() -> dict[str, str]:
    """The engines of this job that have died, as the trainer's process said: who → how."""
    return json.loads(internal_kv._internal_kv_get(_told_key()) or b"{}")


def _told_key() -> bytes:
    return f"mer_r1_dead_engines_{ray.get_runtime_context().get_job_id()}".encode()


class _Looker(threading.Thread):
    def __init__(self, seconds: float):
        super().__init__(name="deaths", daemon=True)
        self.seconds, self.ended = seconds, threading.Event()
        self.found: dict[str, str] = {}
        self.overdue = False

    def run(self) -> None:
        since = None
        while not self.ended.wait(POLL_SECONDS):
            if ray.is_initialized():
                self._try_to_look()
            if self.found and since is None:
                since = time.monotonic()
            if since and time.monotonic() - since > self.seconds and not self.ended.is_set():
                self.overdue = True
                _thread.interrupt_main()
                return

    def _try_to_look(self) -> None:
        try:
            self.look()
        except Exception as error:  # of Ray, busy or restarting: who looks on must not be the one who gives up
            if not self.ended.is_set():
                print(f"main_ppo: could not check for dead workers, will try again: {error!r}", flush=True)

    def look(self) -> None:
        for who, how in (_dead_actors() | _told_engines()).items():
            if who not in self.found:
                self.found[who] = how
                output.say(f"main_ppo: {who} has died: {how}")

    def text(self) -> str:
        late = f"The run did not end within {self.seconds:g} s after that (mer_r1.dead_process_seconds)."
        return _text(self.found, late) if self.overdue else _text(self.found)


def _text(dead: dict[str, str], *more: str) -> str:
    lines = [f"{who} has died: {how}" for who, how in dead.items()]
    return "\n".join([*lines, *more, "Run the same command again to continue from the last checkpoint."])


def _dead_actors() -> dict[str, str]:
    """Actors of this job whose process ended though nobody had asked it to: who → how."""
    found = {}
    job = ray.JobID(bytes.fromhex(ray.get_runtime_context().get_job_id()))
    for actor in state.actors(job_id=job, actor_state_name="DEAD").values():
        if how := _unasked(actor["DeathCause"]):
            found[f"{actor['Name'] or actor['ActorClassName']} (process {actor['Pid']})"] = how
    return found


def _unasked(death: Any) -> str | None:
    """How an actor ended that nobody had asked to end, as where Ray kills it for its memory; None for any other."""
    if death.WhichOneof("context") == "oom_context":
        return "Ray killed it, because the machine's memory was nearly full"
    cause = death.actor_died_error_context
    if cause.Reason.Name(cause.reason) not in ("WORKER_DIED", "NODE_DIED"):
        return None
    return cause.error_message.strip().partition(" Some common causes")[0].partition("\n")[0]


def _dead_engines() -> dict[str, str]:
    calls = {}
    for name in ray.util.list_named_actors():
        if name.startswith(SERVERS):
            with suppress(ValueError):  # it has ended since it was listed
                calls[ray.get_actor(name).__ray_call__.remote(_errored)] = name
    done, _ = ray.wait(list(calls), num_returns=len(calls), timeout=POLL_SECONDS) if calls else ([], [])
    found = {}
    for call in done:
        with suppress(ray.exceptions.RayActorError):  # its actor is dead, too
            if ray.get(call):
                found[f"the vLLM engine of {calls[call]}"] = "see vLLM's messages in the run's output"
    return found


def _errored(server: Any) -> bool:
    engine = getattr(server, "engine", None)  # none while it starts
    return engine is not None and engine.errored


def shut_engine_down(server: Any) -> None:
    """Let an actor's vLLM engine end by itself. Runs in the actor's process, which imports this module for it."""
    # The attribute goes: an engine that was asked to end has not died, nor is it asked twice.
    engine, server.engine = getattr(server, "engine", None), None
    if engine is not None:
        engine.shutdown(timeout=ENGINE_SECONDS)
