"""Start a script of this folder once a rank, as torchrun would, and wait for all."""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from verl_ext.platform import ports

HERE = Path(__file__).parent
SECONDS = 300


@functools.cache
def _server() -> subprocess.Popen[str]:
    """The process that the ranks are forked from: see `rank_server.py`. It ends with this one."""
    server = subprocess.Popen(
        [sys.executable, str(HERE / "rank_server.py")],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(server.wait)
    atexit.register(server.stdin.close)  # first: the last one that was registered
    return server


def run_ranks(script: str, ranks: int, arguments: Iterable[object]) -> list[str]:
    """Run ``python SCRIPT ARGUMENTS…`` a rank; returns each one's output, fails the test on an error."""
    common = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(ports.free_port())}
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / str(rank) for rank in range(ranks)]
        request = {
            "script": str(HERE / script),
            "arguments": [*map(str, arguments)],
            "variables": [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)],
            "logs": [*map(str, logs)],
            "seconds": SECONDS,
        }
        print(json.dumps(request), file=_server().stdin, flush=True)
        answer = _server().stdout.readline()
        assert answer, "the server of the ranks has ended"
        statuses = json.loads(answer)
        said = [log.read_text(errors="replace") for log in logs]
    ends = "\n".join(log[-4000:] for log in said)
    if statuses is None:
        pytest.fail(f"{ranks} ranks had not ended after {SECONDS} s: one waits for another\n{ends}")
    assert statuses == [0] * ranks, ends
    return said
