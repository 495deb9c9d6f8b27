"""Runs a command and ends with it and everything that it started. A script, started by :mod:`.process`; no imports.

    python supervise.py GRACE_SECONDS COMMAND …

It adopts the orphans among the command's descendants (Linux' "child subreaper"), so that all of them stay below it in
the process tree, also where several commands run at a time. The first SIGINT goes to the whole process group, as from a
terminal; a second one kills. What the command leaves behind gets the grace to end by itself, then SIGKILL. The exit
status is the command's, a signal included.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None, use_errno=True)


def main(grace: float, command: list[str]) -> None:
    """Run the command; end as it ends."""
    if _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")
    asked: list[float] = []
    signal.signal(signal.SIGINT, lambda *_: asked.append(time.monotonic()))
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)  # our parent may be killed without time to end us
    child = subprocess.Popen(command, preexec_fn=_in_child)
    status = _wait_for(child.pid, asked, grace)
    _end_the_rest(asked, time.monotonic() + grace / (4 if asked else 1))
    _end_as(status)


def _in_child() -> None:
    """Between fork and exec: listen to SIGINT even where a shell had us ignore it, and don't outlive our parent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)


def _wait_for(pid: int, asked: list[float], grace: float) -> int:
    """The command's wait status; orphans that end meanwhile are reaped. Asked to stop, it has `grace` seconds."""
    told = False
    while True:
        done, status = os.waitpid(-1, os.WNOHANG)
        if done == pid:
            return status
        if asked and not told:
            told = True
            ours = signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.killpg(os.getpgrp(), signal.SIGINT)
            signal.signal(signal.SIGINT, ours)
        if len(asked) > 1 or (asked and time.monotonic() > asked[0] + grace):
            _kill(pid)
        if not done:
            time.sleep(0.05)


def _end_the_rest(asked: list[float], deadline: float) -> None:
    """Wait for the other descendants until the deadline, then kill them: the children of a killed one become ours."""
    while True:
        try:
            done, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if done:
            continue
        if len(asked) > 1 or time.monotonic() > deadline:
            for pid in _children():
                _kill(pid)
        time.sleep(0.05)


def _children() -> list[int]:
    """Children of this process; not every kernel has /proc/PID/task/TID/children."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            parent = (
                file.read().rpartition(b")")[2].split()[1]
            )  # behind the name, which may hold anything: state, parent
            if int(parent) == os.getpid():
                found.append(int(name))
    return found


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _end_as(status: int) -> None:
    """Exit as the command did; where a signal killed it, by the same signal."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
