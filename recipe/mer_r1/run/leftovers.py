"""Ends the processes that this one has started, and takes away what they have left in shared memory.

For a run that is interrupted: nobody waits for a gentle end of Ray's workers and of vLLM's engines then. A killed
process leaves its buffers in /dev/shm: verl's bucket of weights, vLLM's rings.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")
_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Ray's own: its daemon on this machine ends when one of them does."""
_one_at_a_time = threading.Lock()
WAIT_SECONDS = 1.0
"""For the end of processes that were killed."""


def end_ray_workers() -> None:
    """Kill Ray's workers below this process and all that they have started, but not Ray's own daemons.

    A daemon that is killed while this process is connected to it ends this process, too: `ray.shutdown` ends them.
    """
    _end(_workers())


def end_all() -> None:
    """Kill every process below this one."""
    _end(_descendants())


def end(pids: Iterable[int]) -> None:
    """Kill these processes and every process below them; those that have ended are passed over."""
    found: dict[int, psutil.Process] = {}
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found |= {each.pid: each for each in [process, *process.children(recursive=True)]}
    _end(found.values())


def _descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _workers() -> list[psutil.Process]:
    found: dict[int, psutil.Process] = {}
    for process in _descendants():
        with suppress(psutil.NoSuchProcess):
            title = "".join(process.cmdline()[:1])
            if title.startswith("ray::") and not title.startswith(_AGENTS):
                found |= {each.pid: each for each in [process, *process.children(recursive=True)]}
    return list(found.values())


def _end(processes: Iterable[psutil.Process]) -> None:
    """Kill them, then remove the files in shared memory that they alone had in use."""
    with _one_at_a_time:
        processes = list(processes)
        held = set().union(*(held_by(process.pid) for process in processes))
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        deadline = time.monotonic() + WAIT_SECONDS
        while any(map(_lives, processes)) and time.monotonic() < deadline:
            time.sleep(0.02)
        gone = {process.pid for process in processes}
        used = set().union(*(held_by(pid) for pid in psutil.pids() if pid not in gone)) if held else set()
        for file in held - used:
            file.unlink(missing_ok=True)


def _lives(process: psutil.Process) -> bool:
    """Whether it still runs; a child is reaped here, and an orphan that nobody reaps has ended, too."""
    with suppress(psutil.TimeoutExpired):
        process.wait(0)
        return False
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def held_by(pid: int) -> set[Path]:
    """The files of shared memory that a process has mapped or open."""
    folder, names = Path("/proc") / str(pid), set()
    with suppress(OSError):
        lines = (folder / "maps").read_text(errors="replace").splitlines()
        names |= {line.split(None, 5)[-1] for line in lines if str(SHARED_MEMORY) in line}
    with suppress(OSError):
        for entry in (folder / "fd").iterdir():
            with suppress(OSError):
                names.add(os.readlink(entry))
    found = {Path(name) for name in names if name.startswith(f"{SHARED_MEMORY}/")}
    return {path for path in found if path.is_file()}  # not those that were removed while in use
