"""A child of multiprocessing ends after its parent was killed, whether it heeds SIGTERM or not."""

import subprocess
import sys
import time

import psutil
import pytest

pytestmark = pytest.mark.slow

PARENT = """
import multiprocessing, signal, sys, time
from verl_ext.platform import orphans

def child(heed, started):
    if not heed:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    orphans.end_with_parent(grace=0.2)
    orphans.end_with_parent(grace=0.2)
    started.set()
    time.sleep(60)

if __name__ == "__main__":
    orphans.end_with_parent(grace=0.0)  # no child of multiprocessing: nothing happens
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=child, args=(sys.argv[1] == "heeds", started))
    process.start()
    started.wait()
    print(process.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["heeds", "ignores"])
def test_a_child_ends_with_its_parent(kind, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(script), kind], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.5)
    assert child.is_running()
    parent.kill()
    parent.wait()
    child.wait(timeout=10)
