"""`make demo` at its smallest: every stage by its real command, results in one folder, a second call keeps them all."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import pytest

from recipe.mer_r1.explain.rollout_batch import read_batches
from recipe.mer_r1.replay import estimator_from, replay

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]


def demo(out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "recipe.mer_r1.demo", "--scale", "small", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=1500, check=False)
    print(done.stdout, done.stderr)
    return done


def test_the_demo_runs_through_and_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = demo(out)
    assert done.returncode == 0
    assert "$ python -m recipe.mer_r1.main_ppo" in done.stdout
    summary = json.loads((out / "summary.json").read_text())
    for run in summary["runs"].values():
        assert [len(run[score]) for score in ("f1", "recall", "precision", "format")] == [3] * 4
        assert run["vllm_actor_logprob_max_abs_diff"] < 1e-4
    assert 0 < summary["seconds"]["rl_startup"] < summary["seconds"]["total"]
    for row, mode in product(("baseline", "mer_r1"), ("slow", "fast")):
        found = summary["models"][row][mode]
        assert found["n"] == 8
        # RL's own validation decodes, encodes and samples as the evaluation does.
        assert found["f1"] == pytest.approx(summary["runs"][row]["validation"][mode]["f1"][-1], abs=1e-6)
    # BATCH of `replay` and `explain` in docs/commands.md; the batch says what the run was trained with.
    batches = read_batches(out / "mer_r1" / "rollouts")
    assert [batch.path.name for batch in batches] == ["1.jsonl", "2.jsonl", "3.jsonl"]
    assert replay(batches, estimator_from("mer_r1", [])).trained
    assert (out / "results.png").read_bytes().startswith(b"\x89PNG")
    assert "| MER-R1 | slow |" in (out / "results.md").read_text()

    start = time.monotonic()
    again = demo(out)
    assert again.returncode == 0
    assert again.stdout.count("  kept, ") == 9
    assert time.monotonic() - start < 60
