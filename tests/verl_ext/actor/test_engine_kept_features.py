"""Passes of a step with features of frozen encoders kept, against passes that compute all: the same bits."""

import json
from functools import cache

import pytest
import torch
from omni_cases import grouped_samples
from ranks import run_ranks

pytestmark = pytest.mark.seam

LORA = {"lora_rank": 4, "lora_alpha": 8, "target_modules": r".*thinker\.model\.layers\.\d+\.self_attn\.[qv]_proj"}
AND_VISION = r".*(thinker\.model\.layers\.\d+\.self_attn\.q_proj|visual\.blocks\.\d+\.attn\.proj)"
FROZEN = {"override": {"frozen_towers": ["vision", "audio"]}}
RUNS = {
    1: {
        "frozen": {**FROZEN, "micro_batch_size": 8, "checkpoint": True, "checks": True},
        "frozen, by tokens": {**FROZEN, "micro_batch_size": 8, "tokens": 310},
        "LoRA": {**LORA, "micro_batch_size": 8},
        "LoRA in the vision tower, too": {**LORA, "target_modules": AND_VISION, "micro_batch_size": 8},
    },
    2: {
        "frozen": {**FROZEN, "micro_batch_size": 4, "enable_gradient_checkpointing": False},
        "one frozen": {"override": {"frozen_towers": ["audio"]}, "micro_batch_size": 2},
    },
}
# Counted in tokens, the reference's pass has other micro-batches, so features differ in the last bits.
CASES = [(ranks, name) for ranks, runs in RUNS.items() for name in runs if "tokens" not in runs[name]]


@pytest.fixture(scope="module")
def runs(tiny_model, processor, rows, tmp_path_factory):
    """A function: number of ranks -> one dict a rank: name of the run -> way -> pass -> what it gave."""
    out = tmp_path_factory.mktemp("kept_features")
    torch.save(grouped_samples(processor, rows), out / "cases.pt")

    @cache
    def found(ranks):
        run_ranks("kept_features_rank.py", ranks, (tiny_model, out / "cases.pt", out, json.dumps(RUNS[ranks])))
        return [torch.load(out / f"rank{rank}.pt", weights_only=False) for rank in range(ranks)]

    return found


def same(one, other):
    """Whether both hold the same bits."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize(("ranks", "name"), CASES)
def test_every_pass_gives_the_same_bits(ranks, name, runs):
    counted = ("reads", "kept", "bytes", "kept after")
    for result in runs(ranks):
        ways = result[name]
        assert ways["kept"].keys() == ways["computed"].keys()
        for step, found in ways["kept"].items():
            values, expected = (
                {key: value for key, value in given.items() if key not in counted}
                for given in (found, ways["computed"][step])
            )
            assert same(values, expected), step
            assert any(gradient.abs().max() > 0 for gradient in found.get("gradients", {"": torch.ones(1)}).values())


def test_a_step_encodes_each_clip_once(runs):
    """Clips a, t and b; the first two have a sound of their own."""
    for name in ("frozen", "LoRA"):
        kept, computed = (runs(1)[0][name][way] for way in ("kept", "computed"))
        for step in ("reference", "old", "update"):
            assert len(computed[step]["reads"]["vision"]) == len(computed[step]["reads"]["audio"]) == 1
            assert kept[step]["kept"] == 6
            assert 0 < kept[step]["bytes"] < 2**20
            assert computed[step]["kept"] == 0
        assert kept["reference"]["reads"] == computed["reference"]["reads"]
        assert kept["old"]["reads"] == kept["update"]["reads"] == {"vision": [], "audio": []}
        # Empty after the update, so the next pass encodes.
        assert kept["update"]["kept after"] == 0
        assert kept["reference again"]["reads"] == computed["reference"]["reads"]


def test_micro_batches_counted_in_tokens_use_kept_features_too(runs):
    kept, computed = (runs(1)[0]["frozen, by tokens"][way] for way in ("kept", "computed"))
    assert kept["reference"]["reads"] == computed["reference"]["reads"]
    for step in ("old", "update"):
        assert len(computed[step]["reads"]["vision"]) > 1
        assert kept[step]["reads"] == {"vision": [], "audio": []}
    for name, gradient in computed["update"]["gradients"].items():
        assert torch.allclose(kept["update"]["gradients"][name], gradient, rtol=1e-4, atol=1e-6), name


def test_other_media_of_the_same_prompt_are_encoded(runs):
    for name in ("frozen", "LoRA"):
        kept, computed = (runs(1)[0][name][way] for way in ("kept", "computed"))
        assert kept["other media"]["reads"] == computed["other media"]["reads"]
        assert not same(kept["other media"]["losses"], kept["update"]["losses"])


def test_an_actor_with_other_towers_shares_nothing_with_the_reference(runs):
    kept, computed = (runs(1)[0]["frozen"][way] for way in ("kept", "computed"))
    for step in ("reference, other towers", "old, other towers"):
        assert kept[step]["reads"] == computed[step]["reads"], step
    assert kept["update, other towers"]["reads"] == {"vision": [], "audio": []}
    assert not same(kept["old, other towers"]["log_probs"], kept["old"]["log_probs"])


def test_a_tower_with_adapters_is_computed_in_every_pass(runs):
    kept = runs(1)[0]["LoRA in the vision tower, too"]["kept"]
    for step in ("old", "update"):
        assert kept[step]["reads"]["vision"]
    assert kept["reference"]["kept"] == kept["update"]["kept"] == 3  # sounds
    assert not kept["update"]["reads"]["audio"]


def test_a_tower_that_is_trained_is_computed_in_every_pass(runs):
    for result in runs(2):
        for step in ("old", "update"):
            assert result["one frozen"]["kept"][step]["reads"]["vision"]
            assert not result["one frozen"]["kept"][step]["reads"]["audio"]


def test_all_ranks_run_an_encoder_if_one_must(runs):
    first, second = (result["frozen"] for result in runs(2))
    for result in (first, second):
        for step in ("old", "update"):
            assert result["kept"][step]["reads"] == {"vision": [], "audio": []}
    # The first rank then runs one of its clips again; the second encodes all.
    again = first["kept"]["one rank has none"]["reads"]
    assert len(again["vision"]) == 1
    assert sum(again["vision"]) < sum(first["computed"]["update"]["reads"]["vision"])
    assert second["kept"]["one rank has none"]["reads"] == second["computed"]["update"]["reads"]
