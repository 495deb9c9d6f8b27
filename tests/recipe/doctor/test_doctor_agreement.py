"""The doctor's comparison of vLLM with transformers, and the limits under which it runs."""

import json
import sys
import time

import psutil
import pytest
from doctor_cases import subject

from recipe.mer_r1.doctor import agreement

COUNTS = {"video": 8, "audio": 50}
SAME = {
    "transformers": COUNTS,
    "vllm": COUNTS,
    "same_prompt": True,
    "dtype": "float32",
    "tokens": 16,
    "gap": {"mean": 2e-7, "max": 1e-6},
    "noise": None,
}
ROUNDED = SAME | {
    "dtype": "bfloat16",
    "tokens": 320,
    "gap": {"mean": 0.010, "max": 0.1},
    "noise": {"mean": 0.009, "max": 0.08},
}
NAN = float("nan")


def python(code):
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"vllm": {"video": 8, "audio": 49}}, "8 and 49 in vLLM"),
        ({"same_prompt": False, "gap": None}, "tokens of the prompts differ"),
        ({"gap": {"mean": 2e-5, "max": 2e-4}}, "differ by 2.0e-05 (mean) and 2.0e-04 (max)"),
        ({"gap": {"mean": NAN, "max": NAN}}, "nan (max)"),
    ],
)
def test_sides_that_differ(changed, said):
    outcome = agreement.judge(0, ["something", json.dumps(SAME | changed)], [])
    assert outcome.status == "failed"
    assert said in outcome.seen


def test_sides_that_agree():
    outcome = agreement.judge(0, [json.dumps(SAME)], [])
    assert outcome.status == "ok"
    assert outcome.seen == (
        "8 video and 50 audio placeholders on both sides, log-probs of 16 tokens in float32 differ by 2.0e-07 (mean) "
        "and 1.0e-06 (max); limit 1e-04 (max)"
    )


def test_the_text_of_low_precision_names_dtype_values_and_limits():
    outcome = agreement.judge(0, [json.dumps(ROUNDED)], [])
    assert outcome.status == "ok"
    assert outcome.seen.endswith(
        "log-probs of 320 tokens in bfloat16 differ by 1.0e-02 (mean) and 1.0e-01 (max) from transformers in float32; "
        "limits 1.3e-02 (mean) and 2.4e-01 (max): 1.5 and 3.0 times the rounding of transformers in bfloat16"
    )


@pytest.mark.parametrize(
    ("gap", "noise", "status"),
    [
        ((0.0134, 0.239), (0.009, 0.08), "ok"),
        ((0.0136, 0.1), (0.009, 0.08), "failed"),
        ((0.010, 0.241), (0.009, 0.08), "failed"),
        ((NAN, NAN), (0.009, 0.08), "failed"),
        ((0.010, 0.1), (NAN, NAN), "failed"),
        ((5e-5, 9e-5), (0.0, 0.0), "ok"),  # both sides without noise: as near as in float32
        ((5e-5, 2e-4), (0.0, 0.0), "failed"),
    ],
)
def test_low_precision_is_judged_by_mean_and_max_of_the_models_own_rounding(gap, noise, status):
    found = ROUNDED | {"gap": dict(zip(("mean", "max"), gap, strict=True))}
    found["noise"] = dict(zip(("mean", "max"), noise, strict=True))
    assert agreement.judge(0, [json.dumps(found)], []).status == status


@pytest.mark.parametrize(("device", "dtype"), [("cpu", "float32"), ("cuda", "bfloat16")])
def test_a_gpu_compares_in_the_rollouts_dtype_and_a_cpu_exactly(device, dtype):
    preset = subject(f"preset.device={device}", "preset.rollout.dtype=bfloat16").preset
    assert agreement.dtype_of(preset) == dtype


def test_the_dtype_reaches_the_comparison(monkeypatch, tiny_model):
    commands = []
    monkeypatch.setattr(agreement, "run_limited", lambda command, _: commands.append(command) or (0, ["{}"], []))
    monkeypatch.setattr(agreement, "judge", lambda *_: None)
    monkeypatch.setattr(agreement, "_why_not", lambda _: None)
    agreement.check_agreement(subject("preset.device=cuda", "preset.rollout.dtype=bfloat16", model=str(tiny_model)))
    assert commands[0][-2:] == ["--dtype", "bfloat16"]


def test_without_a_gpu_a_cuda_preset_is_skipped(monkeypatch, tiny_model):
    monkeypatch.setattr(agreement, "_has_device", lambda: False)
    outcome = agreement.check_agreement(subject("preset.device=cuda", model=str(tiny_model)))
    assert (outcome.status, outcome.seen) == ("warning", "skipped: there is no CUDA device")


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
    assert (outcome.status, "in float32 need 3 GiB, but 1 GiB are free" in outcome.seen) == ("warning", True)


@pytest.mark.seam
def test_the_tiny_model_agrees(tiny_model):
    outcome = agreement.check_agreement(subject(model=str(tiny_model)))
    assert outcome.status == "ok", outcome
    assert "8 video and 50 audio placeholders on both sides, log-probs of 16 tokens in float32" in outcome.seen
