"""mode=separate_async by its real command: vLLM and the actor on workers of their own, four steps of two updates."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rl_runs import END_SECONDS, Run, process_of, shards_of

from recipe.mer_r1.run import steps

pytestmark = pytest.mark.e2e
STEPS, UPDATES, MAX_VERSIONS = 4, 2, 2
PROMPTS, RESPONSES = 4, 4
# Half a step is sent ahead: each step then trains on responses of the last version and on stale ones.
MODE = (
    "mode=separate_async",
    f"mode.updates_per_sync={UPDATES}",
    "mode.prefetch=0.5",
    f"mode.max_versions={MAX_VERSIONS}",
)


def shard_with_a_broken_clip(corpus: Path, folder: Path) -> Path:
    """The RL shard with its second clip cut off: the first checks decode every few rows, and this is none of them."""
    from verl_ext.data.dataset import load_shard

    rows = load_shard(corpus / "shards" / "rl.parquet").to_list()
    broken = folder / "broken.mp4"
    broken.write_bytes(Path(rows[1]["videos"][0]).read_bytes()[:1500])
    rows[1]["videos"] = [str(broken)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "broken.parquet")
    return folder / "broken.parquet"


def test_weights_reach_the_rollout_and_staleness_is_bounded_and_logged_until_the_engine_dies(
    answering_model, micro_corpus, tmp_path, nothing_stays
) -> None:
    out = tmp_path / "run"
    shards = {**shards_of(micro_corpus), "rl": shard_with_a_broken_clip(micro_corpus, tmp_path)}
    run = Run(
        *(out, answering_model, shards, "experiment=mer_r1", *MODE, f"preset.prompts_per_step={PROMPTS}"),
        *("preset.steps=500", f"preset.save_every={STEPS}", f"trainer.rollout_data_dir={out / 'rollouts'}"),
        *("mer_r1.max_missing_share=0.5", "mer_r1.dead_process_seconds=30"),
    )
    run.await_step(STEPS)
    process_of(run, "EngineCore").kill()
    assert run.wait(30 + END_SECONDS) not in (0, 75, 130)
    assert "DeadProcessError: the vLLM engine of vllm_server_0_0 has died" in run.text
    nothing_stays(killed=True)
    taken = steps.read(out / "metrics.jsonl")
    assert [*taken][:STEPS] == [1, 2, 3, 4]
    for data in taken.values():
        # In both updates: the second takes its log-probs of the weights that the step began with, too.
        assert data["rollout_actor_log_prob_diff/lag_0/max"] < 1e-4
        assert data["training/off_policy/trajectory_staleness_worst/max"] < MAX_VERSIONS
        assert math.isfinite(data["confidence/calib_pos/mean"])
        assert math.isfinite(data["advantage/calib_neg/std"])
    stale = [data for data in taken.values() if "rollout_actor_log_prob_diff/lag_1/max" in data]
    assert stale, "nothing was generated while the actor trained"
    for data in stale:
        assert data["training/off_policy/trajectory_staleness_worst/max"] == 1
        assert data["rollout_actor_log_prob_diff/lag_1/max"] > 1e-3  # the policy moved on meanwhile
        assert data["rollout_corr/rollout_is_max"] != 1
    # verl sends another prompt in the place of the one whose clip is broken; that it did is counted.
    assert any(data["reward/missing"] > 0 for data in taken.values())
    rows = (out / "rollouts" / f"{STEPS}.jsonl").read_text().splitlines()
    assert len(rows) == UPDATES * PROMPTS * RESPONSES
    assert (out / "checkpoints" / "latest_checkpointed_iteration.txt").read_text() == str(STEPS)
