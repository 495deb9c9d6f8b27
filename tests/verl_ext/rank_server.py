"""Imports verl once and forks the ranks of the tests: an import takes each of them longer than its test.

    python rank_server.py < REQUESTS

A request is a JSON line: `script`, `arguments`, `variables` and `log` of each rank, and `seconds`. The answer is a JSON
line with the exit status of each rank; null where they had not all ended in time, and were killed.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import time
import traceback
from typing import Any

import torch.distributed.fsdp  # noqa: F401
import verl
import verl.utils.distributed
import verl.workers.config
import verl.workers.engine
import verl.workers.utils.losses  # noqa: F401

import verl_ext.models.model  # noqa: F401


def become(script: str, arguments: list[str], variables: dict[str, str], log: str) -> None:
    """Be ``python SCRIPT ARGUMENTS…`` with these variables, all output in `log`; does not return."""
    status = 1
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(out, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(variables)
        sys.argv, sys.path[0] = [script, *arguments], os.path.dirname(script)
        runpy.run_path(script, run_name="__main__")
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def run(request: dict[str, Any]) -> list[int] | None:
    """Exit status of each rank."""
    ranks = []
    for variables, log in zip(request["variables"], request["logs"], strict=True):
        if not (rank := os.fork()):
            become(request["script"], request["arguments"], variables, log)
        ranks.append(rank)
    ended: dict[int, int] = {}
    deadline = time.monotonic() + request["seconds"]
    while len(ended) < len(ranks):
        for rank in set(ranks) - set(ended):
            if (end := os.waitpid(rank, os.WNOHANG))[0]:
                ended[rank] = os.waitstatus_to_exitcode(end[1])
        if time.monotonic() > deadline:
            for rank in set(ranks) - set(ended):
                os.kill(rank, signal.SIGKILL)
                os.waitpid(rank, 0)
            return None
        time.sleep(0.02)
    return [ended[rank] for rank in ranks]


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)
