"""What a command shows of itself, and the warnings that it takes out of its log."""

import io
import time

from rich.console import Console

from recipe.mer_r1.pipeline import shown as module
from recipe.mer_r1.pipeline.progress import Status
from recipe.mer_r1.run.output import Output


def test_a_line_for_each_phase_and_each_new_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "EVERY", 0.01)
    log, file = tmp_path / "log.txt", io.StringIO()
    log.write_text("(Runner pid=1) WARNING: step 1: of an earlier start\n")
    now = [Status(text="starting vLLM", phase="starting vLLM")]

    def until(text):
        deadline = time.monotonic() + 5
        while text not in file.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert text in file.getvalue()

    with module.shown(Output(Console(file=file, width=200), log), "rl", "RL", lambda: now[0]):
        until("starting vLLM")
        with log.open("a") as more:
            more.write(
                "noise\n\x1b[36m(Runner pid=1)\x1b[0m WARNING: step 3: no answer has the required form\nWARNING: st"
            )
        until("WARNING: step 3")
        now[0] = Status(2, 4, "F1 0.50  3.0 s/step  6 s left", 3.0, "training")
        until("step 2/4")
    printed = [line.rstrip() for line in file.getvalue().splitlines()]
    assert printed == [
        "rl  0:00  starting vLLM",
        "WARNING: step 3: no answer has the required form",
        "rl  0:00  step 2/4  F1 0.50  3.0 s/step  6 s left",
        "rl  done, 0:00  F1 0.50  3.0 s/step  6 s left",
    ]


def test_on_a_terminal_what_this_process_prints_stays_out_of_the_screen(tmp_path, capsys):
    log, file = tmp_path / "log.txt", io.StringIO()
    log.touch()
    with module.shown(Output(Console(file=file, force_terminal=True), log), "rl", "RL", Status):
        print("noise of a library")
    assert "noise" not in file.getvalue()
    assert capsys.readouterr().out == "noise of a library\n"


def test_a_fault_of_the_screen_does_not_end_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "EVERY", 0.001)
    log = tmp_path / "log.txt"
    log.touch()
    looks = []

    def broken():
        looks.append(1)
        raise OSError("gone")

    with module.shown(Output(Console(file=io.StringIO()), log), "rl", "RL", broken):
        time.sleep(0.1)
    assert len(looks) == 4  # three in a row, and the last look
