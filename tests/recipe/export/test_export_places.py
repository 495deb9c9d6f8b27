"""Which checkpoint is meant, what the card says of its run, and what is refused before anything is loaded."""

import json

import pytest
from omegaconf import OmegaConf

from recipe.mer_r1.export import card, lineage, places
from recipe.mer_r1.export.__main__ import main
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.run import record


def checkpoint(run, step, actor=True):
    shards = run / "checkpoints" / f"global_step_{step}" / ("actor" if actor else "")
    shards.mkdir(parents=True)
    (shards / "model_world_size_1_rank_0.pt").touch()
    return shards


@pytest.mark.parametrize("actor", [True, False])
def test_the_newest_complete_one_is_found_from_anywhere(tmp_path, actor):
    checkpoint(tmp_path, 9, actor)
    newest = checkpoint(tmp_path, 20, actor)
    checkpoint(tmp_path, 30, actor)  # begun, not complete: the note below is verl's word
    (tmp_path / "checkpoints" / "latest_checkpointed_iteration.txt").write_text("20")
    for path in (tmp_path, tmp_path / "checkpoints", newest.parent if actor else newest, newest):
        assert places.find(path) == places.Checkpoint(newest, 20, tmp_path)
    assert places.find(tmp_path, 9).step == 9


def test_what_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        places.find(tmp_path / "absent")
    with pytest.raises(InputError, match="default_local_dir"):
        places.find(tmp_path)
    shards = checkpoint(tmp_path, 9)
    with pytest.raises(InputError, match="choose one with --step"):
        places.find(tmp_path)
    with pytest.raises(InputError, match="no weights of step 4; choose one of 9"):
        places.find(tmp_path, 4)
    with pytest.raises(InputError, match="but of another step"):
        places.find(shards, 4)


def test_bad_input_is_exit_code_2_and_nothing_is_written(tmp_path, capsys):
    checkpoint(tmp_path, 9)
    out = tmp_path / "out"
    out.mkdir()
    assert main([str(tmp_path), "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    out.rmdir()
    assert main([str(tmp_path), "--out", str(out), "--full", str(tmp_path), "--dtype", "float32"]) == 2
    assert main([str(tmp_path), "--out", str(out), "--full", str(tmp_path / "absent")]) == 2
    assert not out.exists()


def recorded(run, model, shard):
    config = OmegaConf.create(
        {"run_dir": str(run), "data": {"train_files": [str(shard)]}, "actor_rollout_ref": {"model": {"path": model}}}
    )
    record.write(config, "ppo")


def test_a_run_is_followed_to_the_one_that_it_started_from(tmp_path):
    sft, rl, shard = tmp_path / "sft", tmp_path / "rl", tmp_path / "data" / "shards" / "rl.parquet"
    (sft / "model").mkdir(parents=True)
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"rows")
    (tmp_path / "data" / "manifest.json").write_text(json.dumps({"corpus": "MER-Micro"}))
    recorded(sft, "owner/name", shard)
    recorded(rl, str(sft / "model"), shard)
    recorded(rl, str(sft / "model"), shard)
    lines = [{"step": step, "data": {"val-core/f1": step / 10}} for step in (2, 4, 6)]
    (rl / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = lineage.gather(places.Checkpoint(checkpoint(rl, 5), 5, rl))
    assert [stage["run"] for stage in found["stages"]] == ["rl", "sft"]
    assert [len(stage["starts"]) for stage in found["stages"]] == [2, 1]
    assert found["stages"][0]["scores"] == {"step": 4, "values": {"val-core/f1": 0.4}}
    text = card.text(found, full=False, dtype="bfloat16")
    assert "base_model: owner/name" in text
    asked = "Subtitle: I am fine.\n    What does the person feel? Reason inside <think> </think>, then list the emotion"
    assert asked in text
    found["stages"][-1]["started_from"] = "/data/Qwen2.5-Omni-7B"
    assert "base_model: Qwen/Qwen2.5-Omni-7B" in card.text(found, full=False, dtype="bfloat16")
    found["stages"][-1]["started_from"] = "models/mine"
    assert "base_model" not in card.text(found, full=False, dtype="bfloat16")
    assert found["stages"][0]["data"][0]["sha256"] in text
    assert found["stages"][0]["data"][0]["manifest_sha256"] in text
    assert "Talker and token2wav are untouched" not in text
    assert "Talker and token2wav are untouched" in card.text(found, full=True, dtype="bfloat16")


def test_what_is_not_found_is_said(tmp_path):
    found = lineage.gather(places.Checkpoint(checkpoint(tmp_path, 5), 5, tmp_path))
    text = card.text(found, full=False, dtype="bfloat16")
    for what in ("Base model:", "- command, code and versions:", "- configuration and data:", "Scores:"):
        assert f"{what} not found in the run folder" in text
    assert "base_model" not in text
