"""The dress rehearsal at its smallest: one rank, one layer, four frames; every stage by its command, and a verdict.

Two ranks leave 2 GB of 24 free, too little for a test that must not depend on what else runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from verl_ext.models.qwen_tokenizer import rank_file

pytestmark = [pytest.mark.e2e, pytest.mark.gpu_pins]
ROOT = Path(__file__).parents[2]


def rehearse(out: Path) -> subprocess.CompletedProcess[str]:
    command = ["-m", "recipe.mer_r1.rehearse", "preset=omni7b", "cluster=h100_2x8", "experiment=mer_r1"]
    command += ["preset.media.max_frames=4", "--layers", "1", "--ranks", "1", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, text=True, capture_output=True, timeout=1500, check=False
    )
    print(done.stdout, done.stderr)
    return done


@pytest.mark.skipif(rank_file() is None, reason="the package dashscope, with Qwen's vocabulary, is not installed")
def test_the_preset_of_16_gpus_is_rehearsed_and_kept(tmp_path: Path, nothing_stays) -> None:
    out = tmp_path / "rehearsal"
    done = rehearse(out)
    assert done.returncode == 0
    assert "VERDICT: the rehearsal went well" in done.stdout
    assert "preset.ranks_per_node: 8 → 1" in done.stdout
    assert "text_config.num_hidden_layers: 28 → 1" in done.stdout
    assert "$ python -m recipe.mer_r1.main_ppo preset=omni7b" in done.stdout
    found = json.loads((out / "rehearsal.json").read_text())
    assert all(check["ok"] for check in found["checks"])
    figures = found["figures"]
    assert [*figures["rl"]] == ["1", "2"]
    assert (
        figures["rl"]["1"]["prompt_length/max"] > 256 + 125
    )  # two pairs of frames of 128 tokens, five seconds of sound
    assert figures["rl"]["1"]["reward/num_words"] > 0
    assert figures["sft"]["2"]["train/loss"] < 8  # it recites some of the rows; a model that knows none has ln 152,064
    nothing_stays()
    again = rehearse(out)
    assert again.returncode == 0
    assert again.stdout.count("kept") == len(found["stages"])
