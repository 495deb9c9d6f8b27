"""Start a script of this folder once a rank, as torchrun would, and wait for all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from verl_ext.platform import ports

HERE = Path(__file__).parent
SECONDS = 300


def run_ranks(script: str, ranks: int, arguments: Iterable[object]) -> list[str]:
    """Run ``python SCRIPT ARGUMENTS…`` a rank; returns each one's output, fails the test on an error."""
    common = {
        **os.environ,
        "PYTHONPATH": str(HERE.parents[1]),
        "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(ports.free_port()),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE / script), *map(str, arguments)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(ranks)
    ]
    try:
        logs = [process.communicate(timeout=SECONDS)[0] for process in processes]
    except subprocess.TimeoutExpired:
        pytest.fail(f"{ranks} ranks had not ended after {SECONDS} s: one waits for another")
    finally:
        for process in processes:
            process.kill()
    ends = "\n".join(log[-4000:] for log in logs)
    assert [process.returncode for process in processes] == [0] * ranks, ends
    return logs
