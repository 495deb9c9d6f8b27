"""Shards within two nodes of two ranks each (2 × 2 CPU ranks over gloo) train as shards over all four ranks do."""

import json

import pytest
import torch
from omni_cases import sample
from ranks import run_ranks

from verl_ext.models.export import merge_shards

pytestmark = pytest.mark.seam

LIMIT = 1e-5
RANKS = 4
SIZES = {"all": -1, "hybrid": 2}
# In order: two samples a rank, so that gradients are accumulated.
KINDS = ("separate", "text", "interleaved", "separate", "text", "text", "video", "audio")


@pytest.fixture(scope="module")
def runs(processor, rows, tiny_model, tmp_path_factory):
    """The folder, and one dict a rank: name -> results."""
    folder = tmp_path_factory.mktemp("hybrid")
    torch.save([sample(processor, kind, rows[seed], seed) for seed, kind in enumerate(KINDS)], folder / "samples.pt")
    run_ranks("hybrid_rank.py", RANKS, (tiny_model, folder / "samples.pt", folder, json.dumps(SIZES)))
    return folder, [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(RANKS)]


def test_the_mesh_has_a_row_a_node(runs):
    for result in runs[1]:
        assert result["hybrid"]["mesh"] == ([[0, 1], [2, 3]], ("ddp", "fsdp"))
        assert result["all"]["mesh"] == ([0, 1, 2, 3], ("fsdp",))


@pytest.mark.parametrize("stage", ["before", "after"])
def test_log_probs_are_those_of_shards_over_all_ranks(stage, runs):
    for result in runs[1]:
        one, two = (torch.cat(result[name][stage]) for name in SIZES)
        assert (one - two).abs().max() <= LIMIT


def test_gradients_are_those_of_shards_over_all_ranks(runs):
    one, two = (runs[1][0][name] for name in SIZES)
    assert set(one["gradients"]) == set(two["gradients"])
    largest = max(gradient.abs().max() for gradient in one["gradients"].values())
    gap = max((one["gradients"][name] - two["gradients"][name]).abs().max() for name in one["gradients"])
    print(f"max |Δ gradient| / max |gradient| {gap / largest:.1e}")
    assert gap <= 1e-4 * largest
    assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
    assert one["grad_norm"] > 0.01


def test_weights_are_those_of_shards_over_all_ranks_after_a_step(runs, tiny_model):
    from safetensors.torch import load_file

    one = runs[1][0]["all"]["weights"]
    drawn = load_file(tiny_model / "model.safetensors")
    assert any(not torch.equal(one[name], drawn[name]) for name in drawn)
    for result in runs[1]:
        two = result["hybrid"]["weights"]
        assert set(one) == set(two)
        assert max((one[name] - two[name]).abs().max() for name in one) <= LIMIT


@pytest.mark.parametrize("name", SIZES)
def test_a_checkpoint_merges_to_the_weights_that_were_sent(name, runs):
    folder, results = runs
    merged, sent = merge_shards(folder / name / "actor"), results[0][name]["weights"]
    assert set(merged) == set(sent)
    assert all(torch.equal(torch.as_tensor(merged[key]), sent[key]) for key in sent)


@pytest.mark.parametrize("name", SIZES)
def test_a_run_resumes_from_its_checkpoint(name, runs):
    assert all(result[name]["resumed"] for result in runs[1])
