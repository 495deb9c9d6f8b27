"""Two FSDP2 ranks over gloo compute what one rank does, also where a rank's batch lacks some or all media."""

import pytest
import torch
from omni_cases import sample
from ranks import run_ranks

from verl_ext.models.export import merge_shards

pytestmark = pytest.mark.seam

LIMIT = 1e-5
# Samples in order; of two ranks, the first takes the first two.
BATCHES = {
    "media everywhere": ("separate", "interleaved", "separate", "separate"),
    "no media on the second rank": ("separate", "interleaved", "text", "text"),
    "no media on the first rank": ("text", "text", "separate", "interleaved"),
    "video here, audio there": ("video", "video", "audio", "audio"),
    "media in turns": ("separate", "text", "text", "separate"),
    "no media at all": ("text", "text", "text", "text"),
}


@pytest.fixture(scope="module")
def batches(processor, rows):
    """Name -> four samples of different lengths."""
    return {
        name: [sample(processor, kind, rows[seed], seed) for seed, kind in enumerate(kinds)]
        for name, kinds in BATCHES.items()
    }


@pytest.fixture(scope="module")
def runs(batches, tiny_model, tmp_path_factory):
    """Results of one and of two ranks: number of ranks -> (folder, one dict a rank)."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.save(batches, folder / "batches.pt")
    found = {}
    for ranks in (1, 2):
        out = folder / str(ranks)
        out.mkdir()
        run_ranks("fsdp_rank.py", ranks, (tiny_model, folder / "batches.pt", out))
        found[ranks] = out, [torch.load(out / f"rank{rank}.pt", weights_only=False) for rank in range(ranks)]
    return found


def joined(runs, ranks, stage, name):
    """Log-probs of a batch's samples, in order, over all ranks."""
    return torch.cat([tensor for result in runs[ranks][1] for tensor in result[stage][name]])


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("stage", ["reference", "before", "after"])
def test_log_probs_of_two_ranks_are_those_of_one(stage, name, runs):
    gap = (joined(runs, 1, stage, name) - joined(runs, 2, stage, name)).abs().max()
    print(f"{stage:9} {name:28} max |Δ log-prob| {gap:.1e}")
    assert gap <= LIMIT


@pytest.mark.parametrize("name", BATCHES)
def test_losses_and_gradients_of_two_ranks_are_those_of_one(name, runs):
    one, two = runs[1][1][0]["steps"][name], runs[2][1][0]["steps"][name]
    assert two["loss"] == pytest.approx(one["loss"], abs=LIMIT)
    assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
    assert one["grad_norm"] > 0.01


def test_weights_of_two_ranks_are_those_of_one_after_the_steps(runs, tiny_model):
    from safetensors.torch import load_file

    one, two = (runs[ranks][1][0]["weights"] for ranks in (1, 2))
    assert set(one) == set(two)
    gap = max((one[name] - two[name]).abs().max().item() for name in one)
    print(f"max |Δ weight| {gap:.1e}")
    assert gap <= LIMIT
    drawn = load_file(tiny_model / "model.safetensors")
    assert set(one) == set(drawn), "weights are sent under other names than the checkpoint's"
    moved = [name for name in one if not torch.equal(one[name], drawn[name])]
    for part in ("audio_tower", "visual", "model.layers", "lm_head"):
        assert any(part in name for name in moved), f"{part} was not trained"


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", BATCHES)
def test_a_forward_only_engine_is_the_actor_before_training(name, ranks, runs):
    assert torch.equal(joined(runs, ranks, "reference", name), joined(runs, ranks, "before", name))


def test_training_moved_the_log_probs(runs):
    for name in BATCHES:
        assert joined(runs, 1, "after", name).mean() > joined(runs, 1, "before", name).mean()


def test_the_engine_is_ours_and_wraps_the_layers(runs):
    for result in runs[2][1]:
        assert result["engine"] == "CPUFSDPEngine"
        layers = {"Qwen2_5OmniDecoderLayer", "Qwen2_5OmniVisionBlock", "Qwen2_5OmniAudioEncoderLayer"}
        assert layers <= {name.removeprefix("FSDP") for name in result["wrapped"]}
        assert result["vision blocks cast their inputs"] == [False, False]


def test_the_engines_log_probs_are_the_policys(runs, batches, policy):
    for name, samples in batches.items():
        expected = []
        for one in samples:
            with torch.no_grad():
                logits = policy(
                    input_ids=one["input_ids"][None],
                    attention_mask=torch.ones_like(one["input_ids"])[None],
                    position_ids=one["position_ids"][:, None],
                    **one["multi_modal_inputs"],
                ).logits[0]
            response = one["input_ids"][one["loss_mask"].bool()]
            expected.append(logits.log_softmax(-1)[-len(response) - 1 : -1].gather(1, response[:, None])[:, 0])
        assert (torch.cat(expected) - joined(runs, 2, "before", name)).abs().max() <= LIMIT


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_checkpoint_merges_to_the_weights_that_were_sent(ranks, runs):
    out, results = runs[ranks]
    merged, sent = merge_shards(out / "actor"), results[0]["weights"]
    assert set(merged) == set(sent)
    assert all(torch.equal(torch.as_tensor(merged[name]), sent[name]) for name in sent)
