"""Merging FSDP's shards: every rank is needed, and a missing one is named. (Two real ranks: test_two_ranks.py.)"""

import json
import shutil

import pytest
import torch

from verl_ext.models import export
from verl_ext.models.export import merge_shards


def write(folder, ranks, world_size):
    for rank in ranks:
        torch.save(
            {"thinker.a": torch.full((2,), float(rank))}, folder / f"model_world_size_{world_size}_rank_{rank}.pt"
        )


def test_one_rank_is_the_whole_model(tmp_path):
    write(tmp_path, [0], 1)
    assert merge_shards(tmp_path)["thinker.a"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("present", [[0], [1], [0, 2], [0, 1, 3]])
def test_missing_ranks_are_named(present, tmp_path):
    write(tmp_path, present, 4)
    missing = sorted(set(range(4)) - set(present))
    with pytest.raises(FileNotFoundError) as caught:
        merge_shards(tmp_path)
    assert f"ranks {missing} of 4" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "trainer.default_local_dir" in str(caught.value)


def test_a_folder_without_shards_is_named(tmp_path):
    (tmp_path / "optim_world_size_1_rank_0.pt").touch()
    with pytest.raises(FileNotFoundError, match="`actor` folder"):
        merge_shards(tmp_path)


def test_shards_of_two_runs_in_one_folder_are_not_mixed(tmp_path):
    write(tmp_path, [0, 1], 2)
    write(tmp_path, [0], 1)
    with pytest.raises(ValueError, match="world sizes 1, 2"):
        merge_shards(tmp_path)


def test_ten_ranks_are_merged_in_order(tmp_path, monkeypatch):
    """Not in the order of their file names."""
    write(tmp_path, range(12), 12)
    monkeypatch.setattr(export, "_merge", torch.cat)
    assert merge_shards(tmp_path)["thinker.a"][::2].tolist() == [float(rank) for rank in range(12)]


def test_a_thinker_alone_is_refused(tmp_path):
    (tmp_path / "huggingface").mkdir()
    (tmp_path / "huggingface" / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    with pytest.raises(ValueError, match="thinker_config"):
        export.export(tmp_path, tmp_path / "out")


def test_a_checkpoint_without_a_config_is_named(tmp_path):
    write(tmp_path, [0], 1)
    with pytest.raises(FileNotFoundError, match="`actor` folder"):
        export.export(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("kept", "asked", "expected"),
    [("bfloat16", None, torch.bfloat16), ("float32", None, torch.float32), ("bfloat16", "float32", torch.float32)],
)
def test_weights_are_saved_in_what_the_config_says_unless_asked(tiny_model, tmp_path, kept, asked, expected):
    from safetensors.torch import load_file

    shutil.copytree(tiny_model, tmp_path / "huggingface")
    path = tmp_path / "huggingface" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = config["thinker_config"]["dtype"] = kept
    path.write_text(json.dumps(config), encoding="utf-8")
    write(tmp_path, [0], 1)
    out = export.export(tmp_path, tmp_path / "out", getattr(torch, asked) if asked else None)
    assert load_file(out / "model.safetensors")["thinker.a"].dtype == expected
    saved = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert saved["dtype"] == saved["thinker_config"]["dtype"] == str(expected).removeprefix("torch.")


def test_an_export_loads_again(tiny_model, policy, tmp_path):
    """From the layout of verl's checkpoints to a folder that gives the same logits."""
    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

    changed = {name: tensor + 0.01 for name, tensor in policy.state_dict().items()}
    torch.save(changed, tmp_path / "model_world_size_1_rank_0.pt")
    (tmp_path / "huggingface").symlink_to(tiny_model)
    out = export.export(tmp_path, tmp_path / "out")
    loaded = Qwen2_5OmniThinkerPolicy.from_pretrained(out, dtype=torch.float32)
    assert all(torch.equal(tensor, changed[name]) for name, tensor in loaded.state_dict().items())
    assert (out / "processor_config.json").exists() or (out / "preprocessor_config.json").exists()
