"""LoRA on the Thinker: what is trained, what travels to vLLM, and what an export holds. Two FSDP ranks, no Ray."""

import json

import pytest
import torch
from omni_cases import sample
from ranks import run_ranks
from safetensors.torch import load_file

from recipe.mer_r1.run import launch
from verl_ext.models.adapters import has_adapters, merge_adapters, read_scale

RANK, ALPHA = 4, 12


def test_merging_is_w_plus_scaled_b_times_a_under_the_plain_names():
    down, up, weight = torch.ones(1, 3), torch.tensor([[1.0], [2.0]]), torch.zeros(2, 3)
    layer = "base_model.model.thinker.model.layers.0.q_proj"
    state = {
        f"{layer}.base_layer.weight": weight,
        f"{layer}.base_layer.bias": torch.ones(2),
        f"{layer}.lora_A.default.weight": down,
        f"{layer}.lora_B.default.weight": up,
        "base_model.model.thinker.lm_head.weight": torch.ones(1),
    }
    merged = merge_adapters(state, scale=3.0)
    name = "thinker.model.layers.0.q_proj"
    assert set(merged) == {f"{name}.weight", f"{name}.bias", "thinker.lm_head.weight"}
    assert merged[f"{name}.weight"].tolist() == [[3, 3, 3], [6, 6, 6]]
    assert weight.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert has_adapters(state)
    assert not has_adapters(merged)


def test_half_an_adapter_is_refused():
    state = {
        "base_model.model.a.base_layer.weight": torch.ones(1, 1),
        "base_model.model.a.lora_A.default.weight": torch.ones(1, 1),
    }
    with pytest.raises(ValueError, match=r"a\.lora_A\.default\.weight: the adapter is not complete"):
        merge_adapters(state, 1.0)


def test_a_checkpoint_without_the_rank_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"lora_train_meta.* is missing"):
        read_scale(tmp_path)


@pytest.fixture(scope="module")
def run(tiny_model, processor, rows, tmp_path_factory):
    """Two ranks train adapters with verl's engine: (folder, one dict a rank)."""
    out = tmp_path_factory.mktemp("lora")
    kinds = ["separate", "interleaved", "separate", "text"]
    torch.save({"media": [sample(processor, kind, rows[i], i) for i, kind in enumerate(kinds)]}, out / "batches.pt")
    targets = launch.compose("ppo", []).actor_rollout_ref.model.target_modules
    settings = {"lora_rank": RANK, "lora_alpha": ALPHA, "target_modules": targets}
    run_ranks("fsdp_rank.py", 2, (tiny_model, out / "batches.pt", out, json.dumps(settings)))
    return out, [torch.load(out / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.seam
def test_only_adapters_of_the_text_model_travel_to_the_rollout(run):
    sent = run[1][0]["weights"]
    assert sent
    assert all(".thinker.model.layers." in name and ".lora_" in name for name in sent)
    assert any(tensor.abs().max() > 0 for name, tensor in sent.items() if ".lora_B." in name), "nothing was trained"


@pytest.mark.seam
def test_adapters_start_as_nothing_and_change_what_the_model_says(run):
    for result in run[1]:
        for before, reference, after in zip(
            *(result[stage]["media"] for stage in ("before", "reference", "after")), strict=True
        ):
            assert (before - reference).abs().max() < 1e-5
            assert (after - before).abs().max() > 1e-4


@pytest.mark.seam
def test_an_export_says_what_base_and_adapters_said(run, tiny_model, tmp_path):
    from verl_ext.models.export import export

    folder, results = run
    model = export(folder / "actor", tmp_path / "model")
    before, after = load_file(tiny_model / "model.safetensors"), load_file(model / "model.safetensors")
    assert set(after) == set(before)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("thinker.model.layers.") for name in moved)
    # The merged model as the reference of a run of its own: its log-probs are those of the trained adapters.
    again = tmp_path / "again"
    again.mkdir()
    run_ranks("fsdp_rank.py", 2, (model, folder / "batches.pt", again))
    for rank, result in enumerate(results):
        merged = torch.load(again / f"rank{rank}.pt", weights_only=False)["reference"]["media"]
        for ours, adapted in zip(merged, result["after"]["media"], strict=True):
            assert (ours - adapted).abs().max() < 1e-5
