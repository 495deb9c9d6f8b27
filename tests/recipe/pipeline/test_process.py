"""Commands end with all their descendants. Run apart: adopting orphans is for a process' whole life."""

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow

# Starts a child in a session of its own that ignores SIGINT and SIGTERM and outlives its parent, as daemons do.
DAEMON = """
import subprocess, sys
child = "import signal, time; signal.signal(2, signal.SIG_IGN); signal.signal(15, signal.SIG_IGN); time.sleep(300)"
print(subprocess.Popen([sys.executable, "-c", child], start_new_session=True).pid, flush=True)
"""
WAITS = DAEMON + "import time; time.sleep(300)\n"
STUBBORN = "import signal, time; signal.signal(2, signal.SIG_IGN); print(1, flush=True); time.sleep(300)\n"


def run(body, *arguments, timeout=60):
    program = textwrap.dedent(
        """
        import sys, time, pathlib, psutil
        from recipe.mer_r1.pipeline import process
        process.POLL_SECONDS, process.GRACE_SECONDS = 0.05, 1.0
        process.adopt_orphans()
        log = pathlib.Path(sys.argv[1])
        """
    ) + textwrap.dedent(body)
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def gone(pid):
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_what_a_command_leaves_behind_is_ended(tmp_path):
    log = tmp_path / "log"
    done = run("print(process.Command([sys.executable, '-c', sys.argv[2]], log).wait(lambda: None))", log, DAEMON)
    assert done.stdout == "0\n", done.stderr
    assert gone(int(log.read_text().split()[0]))


def test_the_exit_status_is_the_commands(tmp_path):
    body = "print(process.Command([sys.executable, '-c', 'raise SystemExit(7)'], log).wait(lambda: None))"
    assert run(body, tmp_path / "log").stdout == "7\n"


def test_a_lock_lasts_as_long_as_any_process_of_the_command(tmp_path):
    """Also where the process that took it is gone: here it closes the file."""
    body = """
        from recipe.mer_r1.files.alone import take
        lock = take(log.with_name("lock"))
        command = process.Command([sys.executable, "-c", "import time; time.sleep(1)"], log, held=[lock])
        lock.close()
        print(take(log.with_name("lock")))
        command.wait(lambda: None)
        print(take(log.with_name("lock")) is None)
        """
    assert run(body, tmp_path / "log").stdout == "None\nFalse\n"


def test_a_command_that_gives_way_has_the_least_priority(tmp_path):
    """Also its group, where Linux shares the processor between sessions first."""
    log, group = tmp_path / "log", Path("/proc/self/autogroup")
    ask = f"import os; print(os.nice(0), *(open('{group}').read().split() if {group.exists()} else ()))"
    body = """
        for way in (False, True):
            process.Command([sys.executable, "-c", sys.argv[2]], log, gives_way=way).wait(lambda: None)
        """
    run(body, log, ask)
    first, second = log.read_text().splitlines()
    assert int(first.split()[0]) < 19
    assert second.split()[0] == "19"
    assert not group.exists() or second.split()[-1] == "19"


@pytest.mark.parametrize("program", [WAITS, STUBBORN], ids=["with a daemon", "that ignores SIGINT"])
def test_ctrl_c_ends_a_command_and_its_descendants(tmp_path, program):
    log = tmp_path / "log"
    body = """
        def interrupt():
            if log.read_text():
                raise KeyboardInterrupt
        try:
            process.Command([sys.executable, '-c', sys.argv[2]], log).wait(interrupt)
        except KeyboardInterrupt:
            print("stopped", psutil.Process().children(recursive=True))
        """
    done = run(body, log, program)
    assert done.stdout == "stopped []\n", done.stderr
    if program is WAITS:
        assert gone(int(log.read_text().split()[0]))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_every_request_to_stop_is_ctrl_c(tmp_path, name):
    """SIGINT also in a shell's background job, which is started ignoring it."""
    body = """
        import os, signal
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        process.listen_to_signals()
        try:
            process.Command([sys.executable, '-c', 'import time; time.sleep(300)'], log).wait(
                lambda: os.kill(os.getpid(), getattr(signal, sys.argv[2])))
        except KeyboardInterrupt:
            print("stopped", psutil.Process().children(recursive=True))
        """
    assert run(body, tmp_path / "log", name).stdout == "stopped []\n"


def test_a_command_does_not_outlive_a_killed_demo(tmp_path):
    """SIGKILL leaves us no time; the kernel tells the command."""
    log = tmp_path / "log"
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"
    body = """
        import os, signal
        process.Command([sys.executable, '-c', sys.argv[2]], log).wait(
            lambda: log.read_text() and os.kill(os.getpid(), signal.SIGKILL))
        """
    assert run(body, log, program).returncode == -9
    assert gone(int(log.read_text().split()[0]))


def test_memory_counts_descendants(tmp_path):
    body = """
        seen = []
        before = process.resident_bytes()
        program = "x = bytearray(200_000_000); x[::4096] = b'1' * len(x[::4096]); import time; time.sleep(0.5)"
        process.Command([sys.executable, '-c', program], log).wait(lambda: seen.append(process.resident_bytes()))
        print(max(seen) - before > 150_000_000)
        """
    assert run(body, tmp_path / "log").stdout == "True\n"


def test_a_signal_that_kills_a_command_is_its_exit_status(tmp_path):
    body = """
        program = "import os; os.kill(os.getpid(), 9)"
        print(process.Command([sys.executable, '-c', program], log).wait(lambda: None))
        """
    assert run(body, tmp_path / "log").stdout == "-9\n"


def test_of_two_commands_each_ends_with_its_own_descendants(tmp_path):
    """Both leave a daemon in a session of its own; the second still runs when the first has ended."""
    log = tmp_path / "log"
    body = """
        other = log.with_suffix(".other")
        second = process.Command([sys.executable, '-c', sys.argv[3]], other)
        first = process.Command([sys.executable, '-c', sys.argv[2]], log)
        while first.poll() is None or not other.read_text():
            time.sleep(0.05)
        daemons = [int(file.read_text().split()[0]) for file in (log, other)]
        memory = [command.resident_bytes() > 0 for command in (first, second)]
        print([psutil.pid_exists(pid) for pid in daemons], second.poll(), memory)
        second.stop()
        print([psutil.pid_exists(pid) for pid in daemons], psutil.Process().children(recursive=True))
        """
    done = run(body, log, DAEMON, WAITS)
    assert done.stdout == "[False, True] None [False, True]\n[False, False] []\n", done.stderr


def test_several_commands_are_stopped_at_the_same_time(tmp_path):
    """Each takes its whole grace of one second."""
    body = """
        commands = [process.Command([sys.executable, '-c', sys.argv[2]], log.with_suffix(f".{n}")) for n in range(4)]
        while not all(log.with_suffix(f".{n}").read_text() for n in range(4)):
            time.sleep(0.05)
        start = time.monotonic()
        process.stop_all(commands)
        print([command.poll() for command in commands], time.monotonic() - start < 3)
        """
    assert run(body, tmp_path / "log", STUBBORN).stdout == "[-9, -9, -9, -9] True\n"
