"""How far the rollout's policy is from the actor's, by the age of the weights that answered (async trainers).

A version of the weights is the step that made it; step t starts from version t - 1, and the actor's log-probs
("old_log_probs") are of that version in all updates of the step. A response whose tokens all come from version t - 1
lags 0 and differs from them by rounding alone: that the weights really reached the rollout shows there. A response that
lags more differs because the policy has moved on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

METRIC = "rollout_actor_log_prob_diff"


def lags(tags: Sequence[Mapping[str, Any]], step: int) -> list[int]:
    """Versions between the oldest weights that made a response and those that the step starts from.

    Args:
        tags: of the responses; verl's agent loop puts the versions there (``min_global_steps``).
        step: the trainer's, from 1.
    """
    return [step - 1 - int(tag["min_global_steps"]) for tag in tags]


def gap_metrics(
    rollout: torch.Tensor, actor: torch.Tensor, mask: torch.Tensor, lag: Sequence[int] | None
) -> dict[str, float]:
    """Largest and mean absolute difference of log-probs, over all sampled tokens and for each lag.

    Args:
        rollout: log-probs of the sampled tokens as vLLM gave them; nested ``(B, tokens)``.
        actor: the same tokens under the actor; nested likewise.
        mask: 1 for sampled tokens; nested likewise.
        lag: of the B responses; None: only over all.
    """
    gaps = (rollout.values() - actor.values()).abs()
    sampled = mask.values().bool()
    metrics = {f"{METRIC}/max": gaps[sampled].max().item(), f"{METRIC}/mean": gaps[sampled].mean().item()}
    if lag is None:
        return metrics
    lag_of_token = torch.tensor(lag).repeat_interleave(mask.offsets().diff())
    for value in sorted(set(lag)):
        chosen = gaps[sampled & (lag_of_token == value)]
        if len(chosen):
            metrics[f"{METRIC}/lag_{value}/max"] = chosen.max().item()
            metrics[f"{METRIC}/lag_{value}/mean"] = chosen.mean().item()
    return metrics
