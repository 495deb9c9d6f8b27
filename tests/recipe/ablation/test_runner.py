"""The runner on small real commands: order, two at a time, failures, going on, and records."""

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from rich.console import Console

from recipe.mer_r1.ablation import record
from recipe.mer_r1.ablation.plan import Run
from recipe.mer_r1.ablation.runner import Runner
from recipe.mer_r1.ablation.work import Work
from recipe.mer_r1.pipeline.screen import Screen
from recipe.mer_r1.pipeline.stage import Stage

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
# Appends its name to a list, waits, and writes its result: what stages of a run do, in a moment.
STAGE = """
import json, pathlib, sys, time
result, order, name = map(pathlib.Path, sys.argv[1:])
with order.open("a") as file:
    file.write(f"{name} begins\\n")
result.parent.mkdir(parents=True, exist_ok=True)
WORK
result.write_text("done")
with order.open("a") as file:
    file.write(f"{name} ends\\n")
"""
ANSWERS = """
line = {"index": 0, "name": "clip", "labels": ["happy"], "words": ["happy"], "wheels": 5, "recall": 1.0,
        "precision": 0.5, "f1": 0.6667, "format": 1.0, "num_words": 2, "categories": 1.2, "tokens": 7}
for mode in ("slow", "fast"):
    (result.parent / f"{mode}.jsonl").write_text(json.dumps(line) + "\\n")
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("recipe.mer_r1.pipeline.process.POLL_SECONDS", 0.02)


def stage(out, name, after=(), work="", kind=""):
    folder = out / name
    code = STAGE.replace("WORK", work)
    command = ("-c", code, str(folder / "result"), str(out / "order"), name)
    return Stage(name, name, command, folder, folder / "result", after)


def run_of(out, name, after=("shared",), rl="", answers=ANSWERS, confidence=""):
    stages = (
        stage(out, f"rl-{name}", after, rl),
        stage(out, f"eval-{name}", (f"rl-{name}",), answers),
        stage(out, f"confidence-{name}", (f"eval-{name}",), confidence),
    )
    row, _, seed = name.partition("-")
    return Run(
        name, row, int(seed), "baseline", "default", ("a=1",), {"row": row}, stages, (stages[-1].name,),
        ("slow", "fast"), out / "sft", out / f"rl-{name}", out / f"eval-{name}",
    )  # fmt: skip


def make(out, runs, shared="", jobs=2, redo=False):
    work = Work([stage(out, "shared", (), shared)], {}, {run.name: run for run in runs})
    for run in runs:
        work.stages += run.stages
        work.owner |= {one.name: run for one in run.stages}
    text = io.StringIO()
    with Screen(work.units, Console(file=text, width=200)) as screen:
        runner = Runner(work, out, out / "results", jobs, redo)
        runner.run(screen)
    return runner, text.getvalue()


def order(out):
    return (out / "order").read_text().splitlines()


def read(out, name):
    return record.read(record.path_of(out / "results", name))


def test_runs_are_made_after_what_they_build_on_and_recorded(tmp_path):
    runner, _ = make(tmp_path, [run_of(tmp_path, "one-1"), run_of(tmp_path, "two-2")], jobs=1)
    assert order(tmp_path)[::2] == [
        f"{name} begins"
        for name in (
            "shared",
            "rl-one-1",
            "eval-one-1",
            "confidence-one-1",
            "rl-two-2",
            "eval-two-2",
            "confidence-two-2",
        )
    ]
    assert (runner.finished, runner.failed) == (["one-1", "two-2"], {})
    found = read(tmp_path, "two-2")
    assert (found.row, found.seed, found.state, found.overrides) == ("two", 2, "finished", ["a=1"])
    assert found.metrics.forms["fast"].f1 == 0.6667
    assert found.clips.names == ["clip"]
    assert found.clips.forms["slow"] == {
        **{"f1": [0.6667], "recall": [1], "precision": [0.5]},
        "f1_well_formed": [0.6667],
    }


def test_two_at_a_time_and_never_more(tmp_path):
    runs = [run_of(tmp_path, f"row-{seed}", rl="time.sleep(0.3)") for seed in range(3)]
    make(tmp_path, runs, jobs=2)
    at_a_time, running = [], 0
    for line in order(tmp_path):
        running += 1 if line.endswith("begins") else -1
        at_a_time.append(running)
    assert max(at_a_time) == 2


def test_a_failed_run_is_recorded_and_the_others_go_on(tmp_path):
    runs = [run_of(tmp_path, "bad-1", rl="raise SystemExit('no memory left')"), run_of(tmp_path, "good-1")]
    runner, text = make(tmp_path, runs)
    assert runner.finished == ["good-1"]
    assert list(runner.failed) == ["bad-1"]
    found = read(tmp_path, "bad-1")
    assert (found.state, found.log[-1]) == ("failed", "no memory left")
    assert "exit status 1" in found.reason
    assert found.metrics is None
    assert not any("eval-bad-1" in line for line in order(tmp_path))
    assert "bad-1: rl-bad-1: failed with exit status 1" in text


def test_a_run_that_is_killed_is_recorded(tmp_path):
    runner, _ = make(tmp_path, [run_of(tmp_path, "dead-1", rl="import os; os.kill(os.getpid(), 9)")])
    assert "killed by signal 9" in read(tmp_path, "dead-1").reason
    assert list(runner.failed) == ["dead-1"]


def test_where_something_shared_fails_no_run_begins(tmp_path):
    runner, _ = make(tmp_path, [run_of(tmp_path, "one-1")], shared="raise SystemExit(3)")
    assert runner.failed.keys() == {"shared", "one-1"}
    assert runner.failed["one-1"] == "it needs shared, which failed"
    assert read(tmp_path, "one-1") is None  # it did not fail: it was not run


def test_a_failed_run_is_made_again_and_what_was_done_is_kept(tmp_path):
    half = "half = result.parent / 'half'; done = half.exists(); half.touch(); done or sys.exit(3)"
    make(tmp_path, [run_of(tmp_path, "one-1", rl=half)])
    assert read(tmp_path, "one-1").state == "failed"
    runner, _ = make(tmp_path, [run_of(tmp_path, "one-1", rl=half)])
    assert runner.finished == ["one-1"]
    assert read(tmp_path, "one-1").state == "finished"
    assert order(tmp_path).count("shared begins") == 1
    assert order(tmp_path).count("rl-one-1 begins") == 2


def test_without_confidences_a_run_is_finished_and_says_what_is_missing(tmp_path):
    runner, _ = make(tmp_path, [run_of(tmp_path, "one-1", confidence="sys.exit('no such form')")])
    assert runner.finished == ["one-1"]
    assert read(tmp_path, "one-1").notes == ["confidence-one-1: failed with exit status 1. no such form"]


def test_answers_that_cannot_be_read_fail_the_run(tmp_path):
    half = ANSWERS + "(result.parent / 'slow.jsonl').write_text('{')"
    runner, _ = make(tmp_path, [run_of(tmp_path, "one-1", answers=half)])
    assert "cut off" in runner.failed["one-1"]
    assert read(tmp_path, "one-1").state == "failed"


def test_an_evaluation_that_fails_fails_the_run_though_what_follows_is_optional(tmp_path):
    runner, _ = make(tmp_path, [run_of(tmp_path, "one-1", answers="raise SystemExit('no engine')")])
    assert runner.finished == []
    assert list(runner.failed) == ["one-1"]
    found = read(tmp_path, "one-1")
    assert (found.state, found.log[-1]) == ("failed", "no engine")
    assert "eval-one-1: failed with exit status 1" in found.reason


def test_results_of_other_settings_are_not_removed_unasked(tmp_path):
    make(tmp_path, [run_of(tmp_path, "one-1")])
    changed = run_of(tmp_path, "one-1", rl="pass")
    runner, _ = make(tmp_path, [changed])
    assert "made with other settings" in runner.failed["one-1"]
    assert (tmp_path / "rl-one-1" / "result").exists()
    runner, _ = make(tmp_path, [changed], redo=True)
    assert runner.finished == ["one-1"]


def test_ctrl_c_ends_all_commands_and_the_same_command_goes_on(tmp_path):
    """In a process of its own, which is sent the signal."""
    program = textwrap.dedent(
        f"""
        import os, sys, pathlib, psutil
        sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(ROOT)!r}]
        import test_runner as t
        from recipe.mer_r1.pipeline import process
        process.listen_to_signals()
        out = pathlib.Path(sys.argv[1])
        wait = "half = result.parent / 'half'; done = half.exists(); half.touch(); done or time.sleep(300)"
        try:
            runner, _ = t.make(out, [t.run_of(out, "one-1", rl=wait), t.run_of(out, "two-1", rl=wait)])
        except KeyboardInterrupt:
            print("stopped", psutil.Process().children(recursive=True))
        else:
            print(runner.finished)
        """
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while len(list(tmp_path.glob("rl-*/half"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGINT)
    assert first.communicate(timeout=30)[0] == "stopped []\n"
    assert not (tmp_path / "results").exists()  # neither finished nor failed
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "['one-1', 'two-1']" in done.stdout or "['two-1', 'one-1']" in done.stdout, done.stderr
    stamp = json.loads((tmp_path / "stamps" / "rl-one-1.json").read_text())
    assert stamp["finished"]
