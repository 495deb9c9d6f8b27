"""What a run survives: an FSDP worker killed while it writes a checkpoint, a stop by signal, itself killed; and it then
equals one left in peace.

Under ``+profile=deterministic``: weights, optimizer, schedule, data order, answers and metrics, bit by bit.
"""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from rl_runs import END_SECONDS, deterministic, process_of
from rl_runs import PEACE_STEPS as STEPS

from recipe.mer_r1.run import steps

pytestmark = pytest.mark.e2e
CLOCK = ("timing", "perf/", "actor/perf/")
"""Metrics of time and memory; all others must be equal."""


def kill_while_it_writes(worker: psutil.Process, unfinished: Path) -> None:
    """Held as soon as a checkpoint is begun, and killed if it was held before the end."""
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        if any(unfinished.glob("*/actor")):
            worker.suspend()
            time.sleep(1)  # a checkpoint that was complete is published by now
            if unfinished.exists():
                worker.kill()
                return
            worker.resume()
        time.sleep(0.002)
    pytest.fail("no checkpoint was caught half written")


def newest(out: Path) -> int:
    return int((out / "checkpoints" / "latest_checkpointed_iteration.txt").read_text())


def test_killed_stopped_and_resumed_a_run_equals_one_left_in_peace(
    peace, micro_corpus, answering_model, tmp_path, nothing_stays
) -> None:
    war = tmp_path
    endless = 500  # the runs of war end by what happens to them
    run = deterministic(war, answering_model, micro_corpus, endless)
    run.await_step(1)
    kill_while_it_writes(process_of(run, "WorkerDict"), war / "checkpoints" / "unfinished")
    assert run.wait(30 + END_SECONDS) not in (0, 75)
    assert re.search(r"DeadProcessError: \w*WorkerDict_0:0 \(process \d+\) has died", run.text)
    nothing_stays(killed=True)
    written = newest(war)
    assert max((war / "checkpoints").glob("global_step_*")).name == f"global_step_{written}"

    run = deterministic(war, answering_model, micro_corpus, endless)
    run.await_step(written + 1)
    run.process.send_signal(signal.SIGUSR1)
    assert run.wait(2 * END_SECONDS) == 75
    stopped = newest(war)
    assert f"stopped on request at step {stopped}; run the same command again to continue" in run.text
    assert written < stopped < STEPS
    assert max(steps.read(war / "metrics.jsonl")) == stopped
    nothing_stays()

    run = deterministic(war, answering_model, micro_corpus, endless)
    run.await_step(STEPS)
    run.process.kill()
    run.wait(END_SECONDS)
    nothing_stays(killed=True)  # it takes a minute: two agents of Ray's look for their raylet no more often
    assert newest(war) >= STEPS
    assert checkpoint(peace) == checkpoint(war)
    for step in range(1, STEPS + 1):
        assert answers(peace, step) == answers(war, step)
        assert metrics(peace, step) == metrics(war, step)
    assert len({row["input"] for step in range(1, STEPS + 1) for row in answers(peace, step)}) > 2  # data does move on


def checkpoint(out: Path) -> dict[str, Any]:
    """Every tensor and number of the last step's checkpoint, by its place: tensors as bytes.

    Without the random states of the actor's process: verl seeds none of them, and nothing there draws from them.
    """
    import torch

    def leaves(value: Any, path: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return {k: v for key, inner in value.items() for k, v in leaves(inner, f"{path}/{key}").items()}
        if isinstance(value, list | tuple):
            return leaves(dict(enumerate(value)), path)
        value = value.to_local() if hasattr(value, "to_local") else value
        return {path: value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value)}

    folder = out / "checkpoints" / f"global_step_{STEPS}"
    files = sorted(folder.rglob("*.pt"))
    assert [file.name.split("_world")[0] for file in files] == ["extra_state", "model", "optim", "data.pt"]
    found = {}
    for file in files:
        found |= leaves(torch.load(file, weights_only=False), file.name)
    return {name: value for name, value in found.items() if "/rng/" not in name}


def metrics(out: Path, step: int) -> dict[str, float]:
    found = steps.read(out / "metrics.jsonl").get(step, {})
    return {name: value for name, value in found.items() if not name.startswith(CLOCK)}


def answers(out: Path, step: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "rollouts" / f"{step}.jsonl").read_text().splitlines()]
