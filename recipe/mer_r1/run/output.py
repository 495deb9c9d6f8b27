"""The screen of a long command, and its log, which gets all that libraries and other processes print.

The file descriptors 1 and 2 themselves lead to the log, so that it also has the output of every process that the
command starts (Ray's workers, vLLM's engine) and of libraries in C. The screen has what :func:`say` is told, what is
drawn on :attr:`Output.console`, and how the command failed.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from recipe.mer_r1.run import logs

LOG = "log.txt"
"""Name of the log in a run's folder, or in a command's output folder."""
START = logs.START
SHOWN_LINES, SHOWN_CAUSES = 15, 3
"""What a failure shows of the log: lines of its end, or errors of our own that came before."""


@dataclass(frozen=True)
class Output:
    """Where a command shows something.

    Attributes:
        console: the screen.
        log: the log; None where everything is on the screen (``verbose``).
        descriptor: of the screen, for those who may only write bytes (a signal handler).
    """

    console: Console
    log: Path | None = None
    descriptor: int = 2


_current: list[Output] = []


def say(text: str) -> None:
    """Tell the user something: on the screen and in the log."""
    if not _current:
        print(text, file=sys.stderr, flush=True)
        return
    _current[-1].console.print(text, markup=False, highlight=False, soft_wrap=True)
    if _current[-1].log:
        _to_descriptor(text)


def say_at_once(text: str) -> None:
    """As :func:`say`, from a signal handler, which may not print: the signal may have come while we were printing."""
    os.write(_current[-1].descriptor if _current else 2, text.encode())


@contextmanager
def to_log(
    log: Path, program: str, verbose: bool = False, passed: tuple[type[Exception], ...] = (), on_errors: bool = False
) -> Iterator[Output]:
    """While inside, the screen has only what is meant for it; all else goes to the log.

    Args:
        log: the file; a command that goes on appends to it.
        program: as messages call it, e.g. "main_ppo".
        verbose: leave everything on the screen, and write no log.
        passed: errors that the caller tells in its own words.
        on_errors: the screen is the standard error; the standard output is for the command's result alone.

    Raises:
        SystemExit: 1, instead of any other error: it is on the screen in short, and complete in the log.
    """
    if verbose:
        with _as_current(Output(Console(stderr=on_errors))) as output:
            yield output
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    failure: Exception | None = None
    with _redirected(log) as (screen, errors):
        output = Output(Console(file=errors if on_errors else screen), log, errors.fileno())
        _to_descriptor(f"{START}{shlex.join(_typed())}  # {time.strftime('%Y-%m-%d %H:%M:%S')}")
        try:
            with _as_current(output):
                yield output
        except passed:
            raise
        except Exception as error:
            _to_descriptor(traceback.format_exc())
            failure = error
    if failure is not None:
        print("\n".join(in_short(failure, log, program)), file=sys.stderr, flush=True)
        raise SystemExit(1) from failure


@contextmanager
def _as_current(output: Output) -> Iterator[Output]:
    _current.append(output)
    try:
        yield output
    finally:
        _current.remove(output)


@contextmanager
def _redirected(log: Path) -> Iterator[tuple]:
    """Lead both descriptors to the log; yields text files on what they led to before."""
    _flush()
    with (
        os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace", buffering=1) as screen,
        os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace", buffering=1) as errors,
    ):
        with log.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        try:
            yield screen, errors
        finally:
            _flush()
            os.dup2(screen.fileno(), 1)
            os.dup2(errors.fileno(), 2)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(ValueError):  # closed
            stream.flush()


def _to_descriptor(line: str) -> None:
    """A line to where the standard output leads, behind what was printed before."""
    _flush()
    os.write(1, f"{line}\n".encode())


def _typed() -> list[str]:
    """The module or script and the arguments of this process, as they may be typed after ``python``."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return [*(["-m", spec.name.removesuffix(".__main__")] if spec else [sys.argv[0]]), *sys.argv[1:]]


def in_short(error: Exception, log: Path, program: str) -> list[str]:
    """What the screen shows of a failure: the error, what the log says before its tracebacks, and where the log is."""
    cause = getattr(error, "cause", None) or error  # Ray wraps a worker's error with its whole traceback
    name, text = type(cause).__name__, str(cause).strip()
    own = type(cause).__module__.startswith(("recipe.", "verl_ext.", "data_prep."))
    lines = [f"{program}: failed. {name}: {text}" if own else f"{program}: failed. {name}: {_last_line(text)}"]
    more = logs.own_errors(log, SHOWN_CAUSES) if own else logs.relevant(log, SHOWN_LINES)
    told = f"{name}: {text}"  # of several lines, perhaps; the log's line is then its first
    lines += [f"  {line}" for line in more if text not in line and not told.startswith(line)]
    return [*lines, f"Complete output: {log}"]


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
