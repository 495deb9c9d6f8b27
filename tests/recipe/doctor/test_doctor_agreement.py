"""The doctor's comparison of vLLM with transformers, and the limits under which it runs."""

import json
import sys
import time

import psutil
import pytest
from doctor_cases import subject

from recipe.mer_r1.doctor import agreement

COUNTS = {"video": 8, "audio": 50}
SAME = {"transformers": COUNTS, "vllm": COUNTS, "same_prompt": True, "tokens": 16, "max_gap": 1e-6}


def python(code):
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"vllm": {"video": 8, "audio": 49}}, "8 and 49 in vLLM"),
        ({"same_prompt": False, "max_gap": None}, "tokens of the prompts differ"),
        ({"max_gap": 2e-4}, "by up to 2.0e-04"),
        ({"max_gap": float("nan")}, "by up to nan"),
    ],
)
def test_sides_that_differ(changed, said):
    outcome = agreement.judge(0, ["something", json.dumps(SAME | changed)], [])
    assert outcome.status == "failed"
    assert said in outcome.seen


def test_sides_that_agree():
    assert agreement.judge(0, [json.dumps(SAME)], []).status == "ok"


def test_a_crash_is_told_with_its_last_lines():
    code = "import sys, os; print('a\\nb\\nc\\nd', file=sys.stderr, flush=True); os.abort()"
    outcome = agreement.judge(*agreement.run_limited(python(code), 60))
    assert outcome.status == "failed"
    assert "signal 6" in outcome.seen
    assert "b | c | d" in outcome.seen


def test_an_exit_code_is_told():
    outcome = agreement.judge(*agreement.run_limited(python("raise SystemExit('boom')"), 60))
    assert "exit code 1; last lines: boom" in outcome.seen


@pytest.mark.slow
def test_a_hang_ends_at_the_limit_with_all_its_children(tmp_path):
    note = tmp_path / "child"
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal, time; "
        "signal.signal(2, signal.SIG_IGN); time.sleep(300)'])\n"
        f"open({str(note)!r}, 'w').write(str(child.pid)); print('waiting', flush=True); time.sleep(300)"
    )
    start = time.monotonic()
    code, out, errors = agreement.run_limited(python(code), 5)
    assert time.monotonic() - start < 60
    assert (code, out) == (None, ["waiting"])
    outcome = agreement.judge(code, out, errors, 5)
    assert (outcome.status, "no answer within 5 s" in outcome.seen) == ("failed", True)
    child = int(note.read_text())
    deadline = time.monotonic() + 10
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "a child outlives the limit"
        time.sleep(0.1)


@pytest.mark.parametrize("model", [None, "owner/name"])
def test_without_a_folder_it_is_skipped(model):
    outcome = agreement.check_agreement(subject(model=model))
    assert (outcome.status, outcome.seen.startswith("skipped: ")) == ("warning", True)


def test_a_folder_that_is_not_whole_is_skipped(tmp_path):
    assert "not complete" in agreement.check_agreement(subject(model=str(tmp_path))).seen


def test_a_model_that_does_not_fit_is_skipped(monkeypatch, tiny_model):
    monkeypatch.setattr(agreement, "memory", lambda: (0, 1 << 30))
    outcome = agreement.check_agreement(subject(model=str(tiny_model)))
    assert (outcome.status, "need 3 GiB, but 1 GiB are free" in outcome.seen) == ("warning", True)


@pytest.mark.seam
def test_the_tiny_model_agrees(tiny_model):
    outcome = agreement.check_agreement(subject(model=str(tiny_model)))
    assert outcome.status == "ok", outcome
    assert "8 video and 50 audio placeholders on both sides" in outcome.seen
