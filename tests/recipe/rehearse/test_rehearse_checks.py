"""The verdict's checks, on figures of a moment; and the wrapper that stops a run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recipe.mer_r1.rehearse import checks, plan
from recipe.mer_r1.rehearse.changes import Places

ROOT = Path(__file__).parents[3]
STEP = dict.fromkeys(checks._RL, 0.5) | {
    "rollout_actor_log_prob_diff/max": 0.06,
    "rollout_actor_log_prob_diff/mean": 0.004,
    "reward/missing": 0.0,
    "prompt_length/max": 2222,
}


@pytest.fixture(scope="module")
def config():
    return plan.trees(["preset=omni7b", "experiment=mer_r1"], Places(Path("/out")))["ppo"].rehearsed


def figures(**changes):
    sft = {step: {"train/loss": 1.0, "train/grad_norm": 2.0} for step in (1, 2)}
    whole = {
        "sft": sft,
        "rl": {1: dict(STEP), 2: dict(STEP)},
        "one_forward": ["log-probs and set log-probs of one forward … differ by 1e-2 at most"],
        "gave_up": False,
        "first_step_kept": True,
        "validated_at": [0, 2],
        "reply": "<think>a</think><answer>sad</answer>",
        "exported": ["config.json", "lineage.json"],
    }
    return whole | changes


def failed(made, config):
    return [check.name for check in checks.judge(made, config) if not check.ok]


def test_all_is_well(config):
    assert failed(figures(), config) == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"sft": {1: {"train/loss": float("nan"), "train/grad_norm": 1.0}, 2: {}}}, "SFT steps"),
        ({"rl": {1: STEP}}, "RL steps"),
        ({"rl": {1: STEP, 2: STEP | {"actor/grad_norm": float("inf")}}}, "RL steps"),
        ({"rl": {1: STEP, 2: STEP | {"reward/missing": 1.0}}}, "answers"),
        ({"rl": {1: STEP, 2: STEP | {"prompt_length/max": 5000}}}, "prompt"),
        (
            {"rl": {1: STEP | {"rollout_actor_log_prob_diff/mean": 0.05}, 2: STEP}},
            "log-probs of vLLM (bfloat16) and the actor",
        ),
        ({"first_step_kept": False}, "resume"),
        ({"validated_at": []}, "validation"),
        ({"one_forward": []}, "confidence pass"),
        ({"gave_up": True}, "confidence pass"),
        ({"exported": []}, "export"),
        ({"reply": " \n"}, "vllm serve"),
    ],
)
def test_each_fault_is_seen(config, changes, name):
    assert failed(figures(**changes), config) == [name]


def test_no_confidence_pass_is_asked_of_the_baseline():
    config = plan.trees(["preset=omni7b", "experiment=baseline"], Places(Path("/out")))["ppo"].rehearsed
    assert failed(figures(one_forward=[]), config) == []


RUN = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1]); folder.mkdir()
(folder / "metrics.jsonl").write_text(json.dumps({"step": 0, "data": {"a": 1}}) + chr(10))
for _ in range(100):
    if (folder / "stop").exists():
        (folder / "metrics.jsonl").open("a").write(json.dumps({"step": 1, "data": {"b": 2.5}}) + chr(10))
        sys.exit(75)
    time.sleep(0.1)
sys.exit(int(sys.argv[2]))
"""


def test_a_run_is_stopped_in_its_first_step_and_its_metrics_are_kept(tmp_path):
    (tmp_path / "a_run.py").write_text(RUN)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "of_before").touch()
    command = [sys.executable, "-m", "recipe.mer_r1.rehearse.until_stop", str(tmp_path / "run"), "a_run"]
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    done = subprocess.run(
        [*command, str(tmp_path / "run"), "0"],
        env={**os.environ, "PYTHONPATH": path},
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    kept = (tmp_path / "run" / "metrics.stopped.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in kept] == [0, 1]
    assert not (tmp_path / "run" / "of_before").exists()


@pytest.mark.parametrize("code", [0, 3])
def test_a_run_that_ends_by_itself_was_not_stopped(tmp_path, code):
    (tmp_path / "a_run.py").write_text(f"import sys; sys.exit({code})")
    command = [sys.executable, "-m", "recipe.mer_r1.rehearse.until_stop", str(tmp_path / "run"), "a_run"]
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == (code or 1)
