"""Ctrl-C: exit code, what is said, and that neither processes nor shared memory stay."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from omegaconf import OmegaConf

from recipe.mer_r1.run import interrupt, leftovers, saved

WORK = """
    import signal, subprocess, sys, threading, time
    from multiprocessing.shared_memory import SharedMemory
    from omegaconf import OmegaConf
    from recipe.mer_r1.run import interrupt

    HOLD = ("import sys, time; from multiprocessing import resource_tracker, shared_memory; "
            "held = shared_memory.SharedMemory(sys.argv[1], create=True, size=4096); print('held', flush=True); "
            "resource_tracker.unregister(held._name, 'shared_memory'); time.sleep(60)")
    config = OmegaConf.create({"run_dir": sys.argv[1], "trainer": {"default_local_dir": sys.argv[1] + "/checkpoints"}})
    with interrupt.ends_soon(config, "main_x", seconds=0.5):
        child = subprocess.Popen([sys.executable, "-c", HOLD, sys.argv[2]], stdout=subprocess.PIPE, text=True)
        child.stdout.readline()
        print(child.pid, flush=True)
        if sys.argv[3] == "deaf":  # as a library that swallows the interrupt
            while True:
                try:
                    time.sleep(60)
                except KeyboardInterrupt:
                    pass
        time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["usual", "deaf"])
def test_ctrl_c_ends_soon_and_leaves_nothing(kind, tmp_path):
    name = f"mer_r1_test_{os.getpid()}_{kind}"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORK), str(tmp_path), name, kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    child = int(process.stdout.readline())
    assert (leftovers.SHARED_MEMORY / name).exists()
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == interrupt.EXIT_CODE == 130
    assert time.monotonic() - start < 5
    assert errors.startswith("main_x: interrupted; all its processes have ended. There is no checkpoint yet")
    assert not psutil.pid_exists(child)
    assert not (leftovers.SHARED_MEMORY / name).exists()


def test_shared_memory_that_another_process_uses_stays(tmp_path):
    file = leftovers.SHARED_MEMORY / f"mer_r1_test_{os.getpid()}_shared"
    file.write_bytes(bytes(4096))
    try:
        with file.open("rb"):
            command = f"import time; held = open({str(file)!r}); print(1, flush=True); time.sleep(60)"
            child = subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE)
            child.stdout.readline()
            assert leftovers.held_by(child.pid) == {file}
            leftovers._end([psutil.Process(child.pid)])
            assert file.exists()
            assert not psutil.pid_exists(child.pid)
    finally:
        file.unlink()


def test_it_says_truly_whether_there_is_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "preset=tiny", "trainer.resume_mode=disable", "run_dir=a b"])
    config = OmegaConf.create({"trainer": {"default_local_dir": str(tmp_path)}})
    assert "There is no checkpoint yet" in saved.how_to_go_on(config, "main_ppo")
    (tmp_path / saved.TRACKER).write_text("16")
    assert "There is no checkpoint yet" in saved.how_to_go_on(config, "main_ppo")  # it was deleted by hand
    (tmp_path / "global_step_16").mkdir()
    assert saved.how_to_go_on(config, "main_ppo") == (
        "The last checkpoint is that of step 16. To continue from it:\n"
        "  python -m recipe.mer_r1.main_ppo preset=tiny 'run_dir=a b'"
    )
    assert saved.newest(Path(tmp_path / "none")) is None
