"""experiment=mer_r1 by its real command, in Ray, vLLM and FSDP; its batches replayed and explained."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rl_runs import PEACE_STEPS, Run, shards_of

from recipe.mer_r1.method.wheel import EmotionWheels
from recipe.mer_r1.run import steps

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
PROMPTS, RESPONSES = 2, 4


def run(*command: str) -> str:
    """Standard output of ``python COMMAND``; fails the test with all output where the command fails."""
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, text=True, capture_output=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def rows(out: Path, step: int) -> list[dict]:
    return [json.loads(line) for line in (out / "rollouts" / f"{step}.jsonl").read_text().splitlines()]


def test_the_screen_names_the_run_and_its_steps_and_the_log_has_the_rest(peace):
    screen = (peace / "log").read_text(errors="replace")
    lines = screen.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["RL", "model", "data", "steps", "wheels"]
    assert re.search(rf"^mer_r1  \d+:\d\d  step \d/{PEACE_STEPS}  F1 \d\.\d\d  \d+\.\d s/step", screen, re.M)
    assert f"model: {peace / 'model'}" in lines[-3:]
    assert len(lines) < 40
    assert (peace / "log.txt").read_text(errors="replace").count("\n") > 500


def test_terms_and_confidence_are_logged_at_every_step(peace):
    taken, printed = steps.read(peace / "metrics.jsonl"), (peace / "printed").read_text()
    assert sorted(taken) == [*range(1, PEACE_STEPS + 1)]
    for name in ("calib_pos", "calib_neg", "margin_slow", "margin_fast", "gt_slow", "gt_fast"):
        read = [data[key] for data in taken.values() if (key := f"confidence/{name}/mean") in data]
        assert all(map(math.isfinite, read)), name
        assert len(read) > 1, name  # the eight responses of a step may have no right word
    for data in taken.values():
        for term in ("recall", "precision", "calib_pos", "calib_neg", "format"):
            assert math.isfinite(data[f"advantage/{term}/std"])
        assert any(name.startswith("category/") for name in data)
        assert 0 < data["confidence/coverage"] <= 1
        assert any(name.startswith("confidence/delta/") for name in data)
        assert data["rollout_actor_log_prob_diff/max"] < 1e-4
    assert "log-probs and set log-probs of one forward for all continuations of a prompt and of plain" in printed
    assert "The run continues with plain forwards" not in printed


def test_batches_are_kept_with_all_that_made_their_advantages(peace):
    batch = [row for step in range(1, PEACE_STEPS + 1) for row in rows(peace, step)]
    assert len(batch) == PEACE_STEPS * PROMPTS * RESPONSES
    wheels = EmotionWheels.builtin()
    with_words = [row for row in batch if row["words"]]
    assert len(with_words) > len(batch) // 2, "the policy of this test names emotions"
    for row in with_words:
        for word in row["words"]:
            if word["counted"]:
                assert set(word["slow"]) == set(wheels.ids)
                # The word's own category is at least as likely as the word's own token (Eq. 1).
                for wheel in wheels.ids:
                    if category := wheels.category(word["word"], wheel):
                        assert word["slow"][wheel][category] >= word["slow_word"] - 1e-4
                        assert wheel in word["covered"]
    assert any(row["signals"]["calib_pos"] is not None for row in batch)
    assert all(row["advantage"] == pytest.approx(sum(row["terms"].values()), abs=1e-5) for row in batch)


def test_replay_gives_the_advantages_of_the_run(peace):
    printed = run("-m", "recipe.mer_r1.replay", str(peace / "rollouts"), "--all", "--json")
    found = json.loads(printed)
    assert found["experiments"]["mer_r1"]["max_abs_difference"] < 1e-5
    assert {"baseline", "rd", "rd_ad", "mer_r1", "a1", "a2", "b1", "b2"} <= set(found["experiments"])


def test_explain_follows_a_response(peace, tmp_path):
    row = next(row for row in rows(peace, 2) if row["words"])
    page = tmp_path / "page.html"
    printed = run("-m", "recipe.mer_r1.explain", str(peace / "rollouts" / "2.jsonl"), row["uid"], "--html", str(page))
    assert row["words"][0]["word"] in printed
    assert row["words"][0]["word"] in page.read_text()


def test_the_async_trainer_without_an_old_log_prob_pass_calibrates_too_until_ctrl_c(
    answering_model, micro_corpus, tmp_path, nothing_stays
):
    mode = ("trainer.v1.trainer_mode=mer_r1_colocate_async", "algorithm.rollout_correction.bypass_mode=true")
    sizes = ("preset.prompts_per_step=4", "preset.steps=500", "preset.save_every=1")
    run = Run(tmp_path, answering_model, shards_of(micro_corpus), "experiment=a1", *mode, *sizes)
    run.await_step(2)
    run.process.send_signal(signal.SIGINT)
    assert run.wait(20) == 130  # alone on the machine: in 5 s
    assert "interrupted; all its processes have ended. The last checkpoint is that of step " in run.text
    assert f"  python -m recipe.mer_r1.main_ppo preset=tiny experiment=baseline run_dir={tmp_path}" in run.text
    nothing_stays()
    taken = steps.read(tmp_path / "metrics.jsonl")
    for step in (1, 2):
        assert math.isfinite(taken[step]["confidence/calib_pos/mean"])
        assert math.isfinite(taken[step]["advantage/calib_pos_word/std"])
