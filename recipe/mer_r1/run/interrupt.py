"""Ctrl-C: a run ends within seconds, leaves nothing behind, and says whether it can go on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from omegaconf import DictConfig

from recipe.mer_r1.files import exits
from recipe.mer_r1.run import leftovers, output, saved, state

EXIT_CODE = exits.INTERRUPTED
SECONDS = 4.0
"""That a run may take to end by itself; then all its processes are killed."""
_END = 0  # no signal has this number


@contextmanager
def ends_soon(config: DictConfig, program: str, seconds: float = SECONDS) -> Iterator[None]:
    """While inside (in the main thread), Ctrl-C ends the program with exit code 130.

    A thread learns of the signal from the interpreter itself, also where the main thread is inside a library that does
    not return. A second Ctrl-C changes nothing: what the first one started ends in time.

    Args:
        config: of the run.
        program: "main_ppo" or "main_sft".
    """
    over = threading.Event()

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    def watch() -> None:
        while (number := os.read(reader, 1)[0]) != _END:
            if number == signal.SIGINT and not over.wait(seconds):
                leftovers.end_all()
                with suppress(Exception):  # of files: the process must end
                    state.interrupted(Path(config.run_dir))
                output.say_at_once(f"{told(config, program)}\n")
                os._exit(EXIT_CODE)

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before, wakeup = signal.signal(signal.SIGINT, interrupt), signal.set_wakeup_fd(writer)
    thread = threading.Thread(target=watch, name="interrupt", daemon=True)
    thread.start()
    try:
        yield
    except KeyboardInterrupt:
        leftovers.end_all()
        over.set()
        print(told(config, program), file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_CODE)  # the interpreter's own end waits for libraries (Ray: for seconds)
    finally:
        over.set()
        signal.set_wakeup_fd(wakeup)
        os.write(writer, bytes([_END]))
        thread.join()
        os.close(writer)
        os.close(reader)
        signal.signal(signal.SIGINT, before)


def told(config: DictConfig, program: str) -> str:
    """What is said at the end."""
    return f"{program}: interrupted; all its processes have ended. {saved.how_to_go_on(config, program)}"
