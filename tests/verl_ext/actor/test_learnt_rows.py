"""Updates of supervised fine-tuning: the head on learnt rows alone, and one rank's savings, against verl's own way."""

import json
from types import SimpleNamespace

import pytest
import torch
from omni_cases import sample
from ranks import run_ranks

pytestmark = pytest.mark.seam

LIMIT = 2e-6  # of the loss, of the gradient norm, and of a parameter's largest gradient
BATCHES = {
    "media": ("separate", "interleaved", "video", "audio"),
    "some without": ("text", "separate", "text", "interleaved"),
    "nothing to learn in one": ("separate", "text", "separate", "text"),
}
RUNS = {
    "one rank": (1, {"micro_batch": 4}),
    "micro-batches": (1, {"micro_batch": 2, "enable_gradient_checkpointing": False}),
    "frozen vision": (1, {"micro_batch": 4, "override": {"frozen_towers": ["vision"]}}),
    "two ranks": (2, {"micro_batch": 2}),
}


@pytest.fixture(scope="module")
def batches(processor, rows):
    found = {
        name: [sample(processor, kind, rows[seed], seed) for seed, kind in enumerate(kinds)]
        for name, kinds in BATCHES.items()
    }
    found["nothing to learn in one"][1]["loss_mask"].zero_()
    return found


@pytest.fixture(scope="module", params=RUNS)
def run(request, batches, tiny_model, tmp_path_factory):
    """Number of ranks, settings, and the result of each rank."""
    ranks, settings = RUNS[request.param]
    out = tmp_path_factory.mktemp("learnt")
    torch.save(batches, out / "batches.pt")
    run_ranks("learnt_rows_rank.py", ranks, (tiny_model, out / "batches.pt", out, json.dumps(settings)))
    return ranks, settings, [torch.load(out / f"rank{rank}.pt", weights_only=False) for rank in range(ranks)]


def test_losses_gradients_and_weights_are_those_of_verl(run):
    for result in run[2]:
        for name in BATCHES:
            ours, verls = (result[way]["steps"][name] for way in ("ours", "verl's"))
            assert ours["loss"] == pytest.approx(verls["loss"], rel=LIMIT)
            assert ours["grad_norm"] == pytest.approx(verls["grad_norm"], rel=LIMIT)
            assert set(ours["gradients"]) == set(verls["gradients"])
        first = next(
            iter(BATCHES)
        )  # later ones follow another step of AdamW, which divides small gradients by small ones
        ours, verls = (result[way]["steps"][first]["gradients"] for way in ("ours", "verl's"))
        gaps = {n: (ours[n] - g).abs().max() / g.abs().max().clamp_min(1e-6) for n, g in verls.items()}
        assert max(gaps.values()) <= 20 * LIMIT, max(gaps, key=gaps.get)
        gap = max((result["ours"]["weights"][n] - w).abs().max() for n, w in result["verl's"]["weights"].items())
        assert gap <= 1e-4, "of three steps of 1e-3"


def test_the_head_scores_learnt_rows_alone(run, batches):
    ranks, settings, results = run
    size, learnt = settings["micro_batch"], []
    for samples in batches.values():
        share = len(samples) // ranks
        own = samples[:share]  # of the first rank
        learnt.append([sum(int(s["loss_mask"].sum()) for s in own[i : i + size]) for i in range(0, share, size)])
    calls = iter(results[0]["ours"]["calls"])
    for rows in learnt:
        for number in rows:
            assert next(calls) == (number, False, 3)
        for _ in rows:
            assert next(calls) == (None, True, 4), "a forward alone returns all log-probs"
    assert next(calls, None) is None
    assert {call[0] for call in results[0]["verl's"]["calls"]} == {None}


def test_one_rank_gathers_a_layer_once_and_keeps_nothing(run):
    ranks, settings, results = run
    micro_batches = 4 // ranks // settings["micro_batch"]
    for name in BATCHES:
        assert results[0]["verl's"]["unshards"][name] == 2 * micro_batches
        assert results[0]["ours"]["unshards"][name] == (1 if ranks == 1 else 2) * micro_batches
        assert results[0]["ours"]["steps"][name]["gathered after the update"] == 0
        assert results[0]["ours"]["steps"][name]["gathered after a forward"] == 0
    assert results[0]["ours"]["fused"] is True
    assert not results[0]["verl's"]["fused"]


class Verl:
    """verl's side of the engine, for what it is asked to do."""

    def __init__(self, **optimizer):
        optimizer = {
            "optimizer_impl": "torch.optim",
            "optimizer": "AdamW",
            "override_optimizer_config": None,
        } | optimizer
        self.optimizer_config = SimpleNamespace(**optimizer)

    def _build_optimizer(self, module):
        return self.optimizer_config.override_optimizer_config


@pytest.mark.parametrize(
    ("optimizer", "asked"),
    [
        ({}, {"fused": True}),
        ({"override_optimizer_config": {"eps": 1e-6}}, {"eps": 1e-6, "fused": True}),
        ({"override_optimizer_config": {"fused": False}}, {"fused": False}),
        ({"override_optimizer_config": {"foreach": True}}, {"foreach": True}),
        ({"optimizer": "SGD"}, None),
        ({"optimizer_impl": "torchao.optim"}, None),
    ],
)
def test_only_torchs_adamw_is_fused_and_only_unless_told_otherwise(optimizer, asked):
    from verl_ext.actor.one_rank import OneRankMixin

    engine = type("Engine", (OneRankMixin, Verl), {})(**optimizer)
    assert engine._build_optimizer(None) == asked
    assert engine.optimizer_config.override_optimizer_config == optimizer.get("override_optimizer_config")


@pytest.mark.parametrize(
    "settings",
    [
        {"responses": torch.zeros(2, 1)},
        {"temperature": 0.7},
        {"temperature": torch.ones(2)},
        {"use_remove_padding": True},
        {"calculate_entropy": True},
        {"return_model_output": True},
        {"use_fused_kernels": True},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_all_rows_are_scored_where_they_are_asked_for(settings, policy):
    from tensordict import TensorDict
    from verl.utils import tensordict_utils as tu

    from verl_ext.actor.learnt_rows import LearntRowsMixin

    engine = LearntRowsMixin()
    engine.module, engine.model_config = policy, SimpleNamespace(hf_config=policy.config)
    plain = {"use_remove_padding": False, "temperature": 1.0}

    def scores(settings):
        tensors = {n: v for n, v in settings.items() if isinstance(v, torch.Tensor)}
        batch = TensorDict({"loss_mask": torch.ones(2, 3), **tensors}, batch_size=2)
        tu.assign_non_tensor(batch, **{n: v for n, v in settings.items() if n not in tensors})
        return engine._scores_learnt_rows(batch)

    assert scores(plain)
    assert not scores(plain | settings)
    with torch.no_grad():
        assert not scores(plain)
