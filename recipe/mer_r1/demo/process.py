"""A command and all its descendants: started, watched, measured, and gone when we are.

Ray and vLLM start processes that outlive their parent for a while. This process adopts such orphans (Linux'
"child subreaper"), so that everything a command ever started stays below us in the process tree and can be ended.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

GRACE_SECONDS = 30.0
"""Between the request to stop and the kill: time for a run to shut Ray down."""
POLL_SECONDS = 1.0
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None, use_errno=True)


def adopt_orphans(adopt: bool = True) -> None:
    """Become the parent of every descendant whose own parent ends; with ``adopt=False``, no longer."""
    if _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def listen_to_signals() -> None:
    """Let SIGTERM and a closed terminal end us as Ctrl-C does, and Ctrl-C also where a shell had us ignore it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


def resident_bytes() -> int:
    """Resident memory of this process and its descendants. Pages that processes share are counted in each."""
    total = 0
    for process in [psutil.Process(), *_descendants()]:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


class Command:
    """A running command in a process group of its own. One at a time: what starts below us meanwhile counts as its.

    Args:
        arguments: the command line.
        log: file that its output is appended to.
    """

    def __init__(self, arguments: Sequence[str], log: Path):
        self._not_ours = {process.pid for process in _descendants()}
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                list(arguments),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_in_child,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def wait(self, every_second: Callable[[], None]) -> int:
        """Call `every_second` until the command ends; its exit status. No process of it is left on return.

        Whatever is raised meanwhile, Ctrl-C above all, ends the command first.
        """
        try:
            while self._process.poll() is None:
                every_second()
                time.sleep(POLL_SECONDS)
        except BaseException:
            self.stop()
            raise
        self._end_descendants(GRACE_SECONDS)
        return self._process.returncode

    def stop(self) -> None:
        """SIGINT, as a terminal sends it; SIGKILL for what is left after the grace, or at a second Ctrl-C."""
        try:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGINT)
                self._process.wait(GRACE_SECONDS)
            self._end_descendants(GRACE_SECONDS / 4)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._end_descendants(0)

    def _end_descendants(self, patience: float) -> None:
        """Give descendants `patience` seconds to end by themselves, then kill them."""
        deadline = time.monotonic() + patience
        while self._alive() and time.monotonic() < deadline:
            time.sleep(0.1)
        while alive := self._alive():
            for process in alive:
                process.kill()
            time.sleep(0.1)

    def _alive(self) -> list[psutil.Process]:
        """Processes of the command that run; dead ones that we adopted are reaped."""
        self._process.poll()
        alive = []
        for process in _descendants():
            try:
                if process.pid in self._not_ours:
                    continue
                if process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(process)
                elif process.pid != self._process.pid and process.ppid() == os.getpid():
                    os.waitpid(process.pid, os.WNOHANG)
            except (psutil.NoSuchProcess, ChildProcessError):
                continue
        return alive


def _descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _in_child() -> None:
    """Between fork and exec: listen to SIGINT even where a shell had us ignore it, and don't outlive our parent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
