"""2 × 2 CPU ranks over gloo, each pair with the whole model, train as four ranks that share it; checkpoints merge."""

import json

import pytest
import torch
from omni_cases import sample
from ranks import run_ranks

from verl_ext.models.export import merge_shards

pytestmark = pytest.mark.seam

LIMIT = 1e-5
RANKS = 4
WAYS = {
    "all": {"fsdp_size": -1},
    "hybrid": {"fsdp_size": 2},
    "weights kept": {"fsdp_size": 2, "reshard_after_forward": False},
}
OTHERS = tuple(WAYS)[1:]
# In order: two samples a rank, so that gradients are accumulated.
KINDS = ("separate", "text", "interleaved", "separate", "text", "text", "video", "audio")


@pytest.fixture(scope="module")
def runs(processor, rows, tiny_model, tmp_path_factory):
    """The folder, and one dict a rank: name -> results."""
    folder = tmp_path_factory.mktemp("hybrid")
    torch.save([sample(processor, kind, rows[seed], seed) for seed, kind in enumerate(KINDS)], folder / "samples.pt")
    run_ranks("hybrid_rank.py", RANKS, (tiny_model, folder / "samples.pt", folder, json.dumps(WAYS)))
    return folder, [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(RANKS)]


def test_the_mesh_has_a_row_a_node(runs):
    for result in runs[1]:
        assert result["hybrid"]["mesh"] == result["weights kept"]["mesh"] == ([[0, 1], [2, 3]], ("ddp", "fsdp"))
        assert result["all"]["mesh"] == ([0, 1, 2, 3], ("fsdp",))


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("stage", ["before", "between", "after"])
def test_log_probs_are_those_of_shards_over_all_ranks(stage, name, runs):
    for result in runs[1]:
        one, two = (torch.cat(result[way][stage]) for way in ("all", name))
        assert (one - two).abs().max() <= LIMIT


@pytest.mark.parametrize("name", OTHERS)
def test_gradients_are_those_of_shards_over_all_ranks(name, runs):
    one, two = (runs[1][0][way] for way in ("all", name))
    assert set(one["gradients"]) == set(two["gradients"])
    largest = max(gradient.abs().max() for gradient in one["gradients"].values())
    gap = max((one["gradients"][key] - two["gradients"][key]).abs().max() for key in one["gradients"])
    print(f"{name}: max |Δ gradient| / max |gradient| {gap / largest:.1e}")
    assert gap <= 1e-4 * largest
    assert two["grad_norms"] == pytest.approx(one["grad_norms"], rel=1e-4)
    assert min(one["grad_norms"]) > 0.01


@pytest.mark.parametrize("name", OTHERS)
def test_weights_are_those_of_shards_over_all_ranks_after_two_steps(name, runs, tiny_model):
    from safetensors.torch import load_file

    one = runs[1][0]["all"]["weights"]
    drawn = load_file(tiny_model / "model.safetensors")
    assert any(not torch.equal(one[key], drawn[key]) for key in drawn)
    for result in runs[1]:
        two = result[name]["weights"]
        assert set(one) == set(two)
        assert max((one[key] - two[key]).abs().max() for key in one) <= LIMIT


@pytest.mark.parametrize("name", WAYS)
def test_a_checkpoint_merges_to_the_weights_that_were_sent(name, runs):
    folder, results = runs
    merged, sent = merge_shards(folder / name / "actor"), results[0][name]["weights"]
    assert set(merged) == set(sent)
    assert all(torch.equal(torch.as_tensor(merged[key]), sent[key]) for key in sent)


@pytest.mark.parametrize("name", WAYS)
def test_a_run_resumes_from_its_checkpoint(name, runs):
    assert all(result[name]["resumed"] for result in runs[1])
