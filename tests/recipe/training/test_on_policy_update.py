"""Without the old-log-prob pass an update is the same, in verl's engine, and nothing that the pass logged is lost."""

import math
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parents[2]
sys.path[:0] = [str(TESTS / "verl_ext")]

from omni_cases import encoder, messages  # noqa: E402
from ranks import run_ranks  # noqa: E402

pytestmark = pytest.mark.seam

LIMIT = 1e-6
GAP = "rollout_actor_log_prob_diff"
RESPONSES = 8
RUNS = {1: ("8", "4"), 2: ("4", "2")}
"""Micro-batch sizes by number of ranks: one micro-batch a rank, and two."""
CASES = [(ranks, size) for ranks, sizes in RUNS.items() for size in sizes]


@pytest.fixture(scope="module")
def cases(tiny_model, micro_corpus):
    """Three prompts of two responses, and one of which verl has filled in the second: it has no token that counts."""
    from transformers import AutoConfig, AutoProcessor

    from verl_ext.data.dataset import load_shard
    from verl_ext.models.processor import bind
    from verl_ext.models.rope import position_ids

    processor = bind(AutoProcessor.from_pretrained(tiny_model), AutoConfig.from_pretrained(tiny_model))
    rows = load_shard(micro_corpus / "shards" / "rl.parquet").to_list()
    found = []
    for index in range(RESPONSES):
        generator = torch.Generator().manual_seed(index)
        encoded = encoder(processor)(messages(rows[index // 2]))
        padding = index == RESPONSES - 1
        size = 1 if padding else 3 + 2 * index
        response = torch.randint(100, len(processor.tokenizer), (size,), generator=generator)
        prompt = torch.tensor(encoded.prompt_ids)
        ids = torch.cat([prompt, response])
        found.append(
            {
                "uid": str(index // 2),
                "input_ids": ids,
                "position_ids": position_ids(processor.rope, ids, encoded.inputs),
                "prompts": prompt,
                "responses": response,
                "response_mask": torch.full_like(response, not padding),
                "advantages": torch.randn((), generator=generator).expand(size).clone(),
                "ref_log_prob": -6 - torch.rand(size, generator=generator),
                "rollout_log_probs": torch.zeros(size),
                "multi_modal_inputs": encoded.inputs,
            }
        )
    return found


@pytest.fixture(scope="module")
def runs(cases, tiny_model, tmp_path_factory):
    """(number of ranks, size of a micro-batch) → one dict a rank."""
    folder = tmp_path_factory.mktemp("on_policy")
    torch.save(cases, folder / "cases.pt")
    script = Path(__file__).with_name("on_policy_rank.py")
    found = {}
    for ranks, sizes in RUNS.items():
        run_ranks(str(script), ranks, (tiny_model, folder / "cases.pt", folder, *sizes))
        results = [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(ranks)]
        found |= {(ranks, size): [result[size] for result in results] for size in sizes}
    return found


def distance(one, other):
    """Of all gradients of two ways, as a part of their norm."""
    one, other = one["gradients"], other["gradients"]
    assert one.keys() == other.keys()
    return math.sqrt(
        sum(((one[name] - value) ** 2).sum().item() for name, value in other.items())
        / sum((value**2).sum().item() for value in other.values())
    )


def over_real_tokens(results, name):
    """Values of all ranks' responses but the last, which was filled in."""
    return [row for result in results for row in result[name]][: RESPONSES - 1]


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_with_the_pass(case, runs):
    expected = runs[case][0]["pass"]
    assert sum(value.abs().max() > 1e-4 for value in expected["gradients"].values()) > 10
    for way in ("update", "update, rollout off"):
        found = runs[case][0][way]
        gap = distance(found, expected)
        print(f"{case}, {way}: loss {expected['loss']:.6f}, gradients differ by {gap:.1e}")
        assert found["loss"] == pytest.approx(expected["loss"], rel=LIMIT)
        assert gap <= LIMIT
        for name in ("actor/pg_loss", "kl_loss", "actor/entropy_loss"):
            assert found["metrics"][name] == pytest.approx(expected["metrics"][name], rel=LIMIT), name
        assert found["metrics"]["actor/ppo_kl"] == 0


@pytest.mark.parametrize("case", CASES)
def test_the_rollouts_log_probs_as_old_ones_would_be_seen(case, runs):
    expected, wrong = (runs[case][0][way] for way in ("pass", "rollout's as old"))
    assert distance(wrong, expected) > 1e-2


@pytest.mark.parametrize("case", CASES)
def test_the_gap_is_that_between_rollout_and_actor(case, runs):
    from recipe.mer_r1.training.staleness import gap_metrics

    noise = over_real_tokens(runs[case], "noise")
    old = over_real_tokens(runs[case], "old")
    rollout, actor, mask = (
        torch.nested.as_nested_tensor(rows, layout=torch.jagged)
        for rows in ([o + n for o, n in zip(old, noise, strict=True)], old, [torch.ones_like(row) for row in old])
    )
    expected = gap_metrics(rollout, actor, mask, None)
    flat = torch.cat(noise).abs()
    assert expected[f"{GAP}/max"] == pytest.approx(flat.max().item(), rel=1e-4)
    for result in runs[case]:  # the same on every rank
        off, exact = (result[way]["metrics"] for way in ("update, rollout off", "update"))
        assert off[f"{GAP}/max"] == pytest.approx(expected[f"{GAP}/max"], rel=1e-4)
        assert off[f"{GAP}/mean"] == pytest.approx(expected[f"{GAP}/mean"], rel=1e-4)
        assert exact[f"{GAP}/max"] < 1e-5
        assert exact[f"{GAP}/mean"] < 1e-6


@pytest.mark.parametrize("loss_agg_mode", ["seq-mean-token-mean", "token-mean"])
@pytest.mark.parametrize("case", CASES)
def test_the_entropy_is_that_of_the_pass(case, loss_agg_mode, runs):
    """As verl's trainer computes it after the pass: without the responses that were filled in."""
    from recipe.mer_r1.training import on_policy

    rows = over_real_tokens(runs[case], "entropy")
    by_response, by_token = torch.stack([row.mean() for row in rows]).mean().item(), torch.cat(rows).mean().item()
    assert abs(by_response - by_token) > 1e-5
    metrics = {f"actor/{name.removeprefix('actor/')}": v for name, v in runs[case][0]["update"]["metrics"].items()}
    if loss_agg_mode == "token-mean":  # of which the loss would be
        metrics["actor/entropy_loss"] = by_token
    on_policy.logged(metrics, loss_agg_mode, RESPONSES, RESPONSES - 1)
    expected = by_token if loss_agg_mode == "token-mean" else by_response
    assert metrics["actor/entropy"] == pytest.approx(expected, rel=1e-5)
    assert {f"{GAP}/max", f"{GAP}/mean"} <= set(metrics)
    assert not any(name.startswith(f"actor/{GAP}") for name in metrics)


def test_a_batch_of_several_updates_is_refused():
    from recipe.mer_r1.training import on_policy

    on_policy.check_one_update(96, 96)
    with pytest.raises(on_policy.SeveralUpdatesError, match=r"97 responses.*96.*Set mer_r1\.old_log_probs=pass"):
        on_policy.check_one_update(97, 96)
