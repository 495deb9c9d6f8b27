"""Where the output of a command goes: a line for the screen, everything else into the log."""

import os
import subprocess
import sys
import textwrap

import pytest

from recipe.mer_r1.run import output

WORK = """
    import os, subprocess, sys
    from pathlib import Path
    from recipe.mer_r1.run import output

    class GoneError(RuntimeError):
        pass

    GoneError.__module__ = "recipe.mer_r1.x"
    with output.to_log(Path(sys.argv[1]), "main_x", verbose=sys.argv[2] == "verbose"):
        print("library")
        os.write(2, b"C library\\n")
        subprocess.run(["sh", "-c", "echo child; echo child error >&2"])
        output.say("for you")
        if sys.argv[2] == "own":
            raise GoneError("the file is gone")
        if sys.argv[2] == "other":
            raise ZeroDivisionError("nobody thought of it")
        if sys.argv[2] == "input":
            raise SystemExit("correct the key")
    print("result")
"""


def run(log, kind):
    """Exit code, lines of stdout, lines of stderr, lines of the log (None: not there)."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WORK), str(log), kind],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        timeout=60,
    )
    lines = log.read_text().splitlines() if log.exists() else None
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines(), lines


def test_the_screen_has_what_is_said_and_the_log_all_of_it(tmp_path):
    code, out, errors, log = run(tmp_path / "new" / "log.txt", "quiet")
    assert (code, out, errors) == (0, ["for you", "result"], [])
    assert log[0].startswith(f"$ python -c {tmp_path}")
    assert log[1:] == ["library", "C library", "child", "child error", "for you"]


def test_verbose_shows_everything_and_writes_no_log(tmp_path):
    code, out, errors, log = run(tmp_path / "log.txt", "verbose")
    assert (code, out, errors) == (0, ["library", "child", "for you", "result"], ["C library", "child error"])
    assert log is None


@pytest.mark.parametrize(
    ("kind", "first"),
    [("own", "main_x: failed. GoneError: the file is gone"), ("other", "main_x: failed. ZeroDivisionError: nobody")],
)
def test_a_failure_is_told_in_short_and_names_the_log(kind, first, tmp_path):
    code, out, errors, log = run(tmp_path / "log.txt", kind)
    assert (code, out) == (1, ["for you"])
    assert errors[0].startswith(first)
    assert errors[-1] == f"Complete output: {tmp_path / 'log.txt'}"
    assert "Traceback (most recent call last):" in log
    assert ("  child error" in errors) == (kind == "other")  # of a library's error, the end of the log


def test_an_input_error_is_the_message_alone(tmp_path):
    code, _, errors, _ = run(tmp_path / "log.txt", "input")
    assert (code, errors) == (1, ["correct the key"])


def test_an_error_that_the_caller_tells_passes(tmp_path, capfd):
    with pytest.raises(ValueError, match="row 3"), output.to_log(tmp_path / "log.txt", "x", passed=(ValueError,)):
        raise ValueError("row 3")
    assert capfd.readouterr() == ("", "")


def test_a_workers_error_is_told_as_its_cause(tmp_path):
    class Wrapped(RuntimeError):
        cause = ZeroDivisionError("by zero")

    lines = output.in_short(Wrapped("a whole traceback"), tmp_path / "log.txt", "main_ppo")
    assert lines[0] == "main_ppo: failed. ZeroDivisionError: by zero"
