"""experiment=mer_r1 by its real command, in Ray, vLLM and FSDP; its batches replayed and explained."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from recipe.mer_r1.method.wheel import EmotionWheels
from recipe.mer_r1.run import steps

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
STEPS, PROMPTS, RESPONSES = 2, 4, 4


def run(*command: str) -> str:
    """Standard output of ``python COMMAND``; fails the test with all output where the command fails."""
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, text=True, capture_output=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def train(out: Path, model: Path, corpus: Path, *overrides: str) -> str:
    return run(
        *("-m", "recipe.mer_r1.main_ppo", "preset=tiny", f"run_dir={out}", f"preset.model_path={model}"),
        f"preset.train_files={corpus / 'shards' / 'rl.parquet'}",
        f"preset.val_files={corpus / 'shards' / 'test.parquet'}",
        *(f"preset.steps={STEPS}", f"preset.prompts_per_step={PROMPTS}", f"preset.responses_per_prompt={RESPONSES}"),
        *("preset.micro_batch_tokens=512", f"preset.save_every={STEPS}", "preset.validate_every=-1"),
        *("trainer.val_before_train=false", f"trainer.rollout_data_dir={out / 'rollouts'}", *overrides),
    )


@pytest.fixture(scope="module")
def mer_r1(answering_model, micro_corpus, tmp_path_factory):
    """The folder of a run, and what its screen had."""
    out = tmp_path_factory.mktemp("mer_r1") / "run"
    return out, train(out, answering_model, micro_corpus, "experiment=mer_r1")


def test_the_screen_names_the_run_and_its_steps_and_the_log_has_the_rest(mer_r1):
    out, screen = mer_r1
    lines = screen.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["RL", "model", "data", "steps", "wheels"]
    assert re.search(rf"^mer_r1  \d+:\d\d  step \d/{STEPS}  F1 \d\.\d\d  \d+\.\d s/step", screen, re.M)
    assert lines[-1] == f"model: {out / 'model'}"
    assert len(lines) < 40
    assert (out / "log.txt").read_text(errors="replace").count("\n") > 500


def rows(out: Path, step: int = 1) -> list[dict]:
    return [json.loads(line) for line in (out / "rollouts" / f"{step}.jsonl").read_text().splitlines()]


def test_terms_and_confidence_are_logged_at_every_step(mer_r1):
    out, _ = mer_r1
    printed = (out / "log.txt").read_text(errors="replace")
    taken = steps.read(out / "metrics.jsonl")
    assert sorted(taken) == [1, 2]
    for data in taken.values():
        for name in ("calib_pos", "calib_neg", "margin_slow", "margin_fast", "gt_slow", "gt_fast"):
            assert math.isfinite(data[f"confidence/{name}/mean"]), name
        for term in ("recall", "precision", "calib_pos", "calib_neg", "format"):
            assert math.isfinite(data[f"advantage/{term}/std"])
        assert any(name.startswith("category/") for name in data)
        assert 0 < data["confidence/coverage"] <= 1
        assert any(name.startswith("confidence/delta/") for name in data)
        assert data["rollout_actor_log_prob_diff/max"] < 1e-4
    assert "log-probs and set log-probs of one forward for all continuations of a prompt and of plain" in printed
    assert "The run continues with plain forwards" not in printed


def test_a_batch_is_kept_with_all_that_made_its_advantages(mer_r1):
    out, _ = mer_r1
    batch = rows(out)
    assert len(batch) == PROMPTS * RESPONSES
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


def test_replay_gives_the_advantages_of_the_run(mer_r1):
    out, _ = mer_r1
    batch = str(out / "rollouts" / "2.jsonl")
    printed = run("-m", "recipe.mer_r1.replay", batch, "--all", "--json")
    found = json.loads(printed)
    assert found["experiments"]["mer_r1"]["max_abs_difference"] < 1e-5
    assert {"baseline", "rd", "rd_ad", "mer_r1", "a1", "a2", "b1", "b2"} <= set(found["experiments"])


def test_explain_follows_a_response(mer_r1, tmp_path):
    out, _ = mer_r1
    row = next(row for row in rows(out, 2) if row["words"])
    page = tmp_path / "page.html"
    printed = run("-m", "recipe.mer_r1.explain", str(out / "rollouts" / "2.jsonl"), row["uid"], "--html", str(page))
    assert row["words"][0]["word"] in printed
    assert row["words"][0]["word"] in page.read_text()


def test_the_async_trainer_without_an_old_log_prob_pass_calibrates_too(answering_model, micro_corpus, tmp_path):
    out = tmp_path / "run"
    train(
        out,
        answering_model,
        micro_corpus,
        "experiment=a1",
        "trainer.v1.trainer_mode=mer_r1_colocate_async",
        "algorithm.rollout_correction.bypass_mode=true",
    )
    for data in steps.read(out / "metrics.jsonl").values():
        assert math.isfinite(data["confidence/calib_pos/mean"])
        assert math.isfinite(data["advantage/calib_pos_word/std"])
