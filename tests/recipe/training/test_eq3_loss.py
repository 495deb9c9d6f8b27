"""Eq. 3 by hand against verl's loss under our configuration: value and gradient."""

from __future__ import annotations

import pytest
import torch

from recipe.mer_r1.run import launch

pytestmark = pytest.mark.seam
PROMPTS, RESPONSES = (3, 3, 2, 2), (4, 1, 6, 2)
"""Tokens of each prompt and of its response: two groups of two."""
ADVANTAGES = (1.3, -1.3, 0.4, -0.4)
ETA, BETA = 0.2, 0.5


@pytest.fixture(scope="module")
def actor():
    """verl's ActorConfig as `main_ppo preset=tiny` hands it to the workers, with a β that shows."""
    from verl.utils.config import omega_conf_to_dataclass

    config = launch.compose("ppo", ["preset=tiny", f"preset.kl_coef={BETA}"]).actor_rollout_ref.actor
    return omega_conf_to_dataclass(config)


def nested(rows):
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


@pytest.fixture(scope="module")
def made():
    """New log-probs by response, and what they are compared with; ratios lie below, inside and above the clip range."""
    generator = torch.Generator().manual_seed(3)
    new = [-2 * torch.rand(length, generator=generator) - 0.1 for length in RESPONSES]
    old = [row + 0.4 * torch.randn(len(row), generator=generator) for row in new]
    reference = [row + 0.3 * torch.randn(len(row), generator=generator) for row in new]
    ratios = torch.cat([(n - o).exp() for n, o in zip(new, old, strict=True)])
    assert (ratios < 1 - ETA).any()
    assert (ratios > 1 + ETA).any()
    assert ((ratios - 1).abs() < ETA).any()
    return new, old, reference


def by_hand(new, old, reference):
    """Eq. 3: the mean over the K responses of the mean over their tokens."""
    loss = 0.0
    for n, o, r, advantage in zip(new, old, reference, ADVANTAGES, strict=True):
        ratio = (n - o).exp()
        gain = torch.minimum(ratio * advantage, ratio.clamp(1 - ETA, 1 + ETA) * advantage)
        divergence = (r - n).exp() - (r - n) - 1
        loss = loss + (BETA * divergence - gain).mean() / len(RESPONSES)
    return loss


def of_verl(actor, new, old, reference):
    from verl.utils import tensordict_utils as tu
    from verl.workers.utils.losses import ppo_loss

    # The engine's log-probs are one to the left: that of a token stands where the token before it does.
    whole = [
        torch.cat([torch.full((prompt - 1,), 9.0), row, torch.full((1,), 9.0)])
        for prompt, row in zip(PROMPTS, new, strict=True)
    ]
    tensors = {
        "prompts": nested(torch.zeros(prompt, dtype=torch.long) for prompt in PROMPTS),
        "responses": nested(torch.zeros(length, dtype=torch.long) for length in RESPONSES),
        "response_mask": nested(torch.ones(length) for length in RESPONSES),
        "old_log_probs": nested(old),
        "ref_log_prob": nested(reference),
        "advantages": nested(torch.full((n,), a) for n, a in zip(RESPONSES, ADVANTAGES, strict=True)),
    }
    sizes = {"dp_size": 1, "batch_num_tokens": sum(RESPONSES), "global_batch_size": len(RESPONSES)}
    loss, metrics = ppo_loss(actor, {"log_probs": nested(whole)}, tu.get_tensordict(tensors, sizes))
    return loss, metrics


def test_loss_and_gradient_are_those_of_eq_3(actor, made):
    new, old, reference = made
    ours = [row.clone().requires_grad_() for row in new]
    theirs = [row.clone().requires_grad_() for row in new]
    expected = by_hand(ours, old, reference)
    loss, _ = of_verl(actor, theirs, old, reference)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    assert torch.cat(torch.autograd.grad(loss, theirs)) == pytest.approx(
        torch.cat(torch.autograd.grad(expected, ours)), abs=1e-6
    )


def test_every_response_weighs_the_same_however_long_it_is(actor):
    """At π = π_old = π_ref the loss is minus the mean advantage of the responses, not of their tokens."""
    same = [torch.full((length,), -1.0) for length in RESPONSES]
    loss, metrics = of_verl(actor, same, same, same)
    assert loss.item() == pytest.approx(-sum(ADVANTAGES) / len(ADVANTAGES), abs=1e-6)
    long_ones = [a * n for a, n in zip(ADVANTAGES, RESPONSES, strict=True)]
    assert abs(loss.item() + sum(long_ones) / sum(RESPONSES)) > 0.1
    assert metrics["kl_coef"] == BETA


def test_a_large_ratio_of_a_bad_response_is_not_bounded(actor):
    """Eq. 3 has no dual clip (verl's bound would be 3)."""
    old, new = [torch.full((n,), -5.0) for n in RESPONSES], [torch.full((n,), -1.0) for n in RESPONSES]
    loss, _ = of_verl(actor, new, old, new)
    assert loss.item() == pytest.approx(by_hand(new, old, new).item(), rel=1e-5)
    assert loss.item() > 20


def test_a_clip_range_is_one_key():
    """verl reads clip_ratio_low and clip_ratio_high; both follow clip_ratio."""
    config = launch.compose("ppo", ["preset=tiny", "actor_rollout_ref.actor.clip_ratio=0.3"]).actor_rollout_ref.actor
    assert (config.clip_ratio_low, config.clip_ratio_high) == (0.3, 0.3)
