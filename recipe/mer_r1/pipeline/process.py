"""A command and all its descendants: started, watched, measured, and gone when we are.

Ray and vLLM start processes that outlive their parent for a while. A supervisor per command (:mod:`.supervise`) adopts
such orphans, so that everything a command ever started stays below its supervisor in the process tree. So several
commands can run at a time, and each can be measured and ended alone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

GRACE_SECONDS = 30.0
"""Between the request to stop and the kill: time for a run to shut Ray down."""
POLL_SECONDS = 1.0
_PR_SET_CHILD_SUBREAPER = 36
_SUPERVISOR = Path(__file__).with_name("supervise.py")
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


def resident_bytes(pid: int | None = None) -> int:
    """Resident memory of a process (default: this one) and its descendants. Shared pages are counted in each.

    0 where there is no such process any more.
    """
    total = 0
    try:
        root = psutil.Process(pid)
        everything = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in everything:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


class Command:
    """A running command in a process group of its own, below a supervisor of its own; several may run at a time.

    Args:
        arguments: the command line.
        log: file that its output is appended to.
        environment: variables that it gets besides ours.
        gives_way: whether it leaves the processor to everything else that wants it.
        held: files that stay open until no process of the command is left, also if we are killed: their locks last.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        gives_way: bool = False,
        held: Sequence[IO[str]] = (),
    ):
        with log.open("ab") as file:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SUPERVISOR), str(GRACE_SECONDS), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_give_way if gives_way else _in_child,
                pass_fds=[one.fileno() for one in held],  # the supervisor keeps them, and no process below it
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            )

    @property
    def pid(self) -> int:
        """Of the supervisor, which has all processes of the command below it."""
        return self._supervisor.pid

    def poll(self) -> int | None:
        """The exit status (negative: the signal that killed it) once no process of it is left; None before."""
        return self._supervisor.poll()

    def resident_bytes(self) -> int:
        """Resident memory of the command and its descendants."""
        return resident_bytes(self._supervisor.pid)

    def wait(self, every_second: Callable[[], None]) -> int:
        """Call `every_second` until the command ends; its exit status. No process of it is left on return.

        Whatever is raised meanwhile, Ctrl-C above all, ends the command first.
        """
        try:
            while self.poll() is None:
                every_second()
                time.sleep(POLL_SECONDS)
        except BaseException:
            self.stop()
            raise
        return self._supervisor.returncode

    def ask_to_stop(self) -> None:
        """SIGINT, as a terminal sends it; returns at once. The second time: SIGKILL."""
        if self.poll() is None:
            self._supervisor.send_signal(signal.SIGINT)

    def stop(self) -> None:
        """SIGINT, as a terminal sends it; SIGKILL for what is left after the grace, or at a second Ctrl-C."""
        stop_all([self])

    def join(self) -> None:
        """Wait for the end of a command that was asked to stop."""
        try:
            self._supervisor.wait(GRACE_SECONDS * 1.25 + 10)
        except subprocess.TimeoutExpired:
            self.ask_to_stop()
            self._supervisor.wait()


def stop_all(commands: Sequence[Command]) -> None:
    """End several commands at the same time, each as :meth:`Command.stop` does."""
    try:
        for command in commands:
            command.ask_to_stop()
        for command in commands:
            command.join()
    except KeyboardInterrupt:
        for command in commands:
            command.ask_to_stop()
        for command in commands:
            command.join()


def _in_child() -> None:
    """Between fork and exec: the supervisor must receive SIGINT, even where a shell had us ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _give_way() -> None:
    """In the child: take the lowest priority, below Ray's workers, whose niceness is 15.

    Where Linux shares the processor between sessions first (autogroup), the session has a niceness of its own.
    """
    _in_child()
    os.nice(19)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("19")
