"""verl's loss where the old log-probs are the update's own, and what the pass for them would have logged.

Used with ``mer_r1.old_log_probs=update`` (:mod:`recipe.mer_r1.run.on_policy`). Any policy loss of verl's works: it is
called with the log-probs of this very forward, detached, as those of π_old. Every ratio is then exactly 1.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig
from tensordict import TensorDict
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.metric import AggregationType, Metric
from verl.workers.config import ActorConfig
from verl.workers.utils.losses import ppo_loss
from verl.workers.utils.padding import response_from_nested

from recipe.mer_r1.training.staleness import METRIC

MAX, MEAN = f"{METRIC}/max", f"{METRIC}/mean"
ENTROPY = "actor/entropy"
_PREFIX = "actor/"
"""verl puts it before the name of every metric of an update."""


class SeveralUpdatesError(RuntimeError):
    """A batch would make more than one update: after the first, π_old is no longer the policy that is updated."""


def loss_of(actor: DictConfig) -> partial:
    """The loss for the actor's workers; ``actor`` is ``actor_rollout_ref.actor``."""
    return partial(on_policy_loss, config=omega_conf_to_dataclass(actor))


def on_policy_loss(
    config: ActorConfig, model_output: dict[str, torch.Tensor], data: TensorDict, dp_group: Any = None
) -> tuple[torch.Tensor, dict[str, Any]]:
    """verl's ``ppo_loss`` of a micro-batch, with old log-probs of this forward.

    Args:
        config: of the actor.
        model_output: ``log_probs``, and ``entropy`` where it was asked for; nested ``(B, prompt + response)``.
        data: as verl's, without ``old_log_probs``, with ``rollout_log_probs``: nested ``(B, response)``.
        dp_group: handed on.

    Returns:
        The loss, and its metrics with the gap between rollout and actor: the largest over all micro-batches and ranks,
        and parts of the mean over all sampled tokens, which verl adds up.
    """
    mask = data["response_mask"]
    with torch.no_grad():
        own = response_from_nested(model_output["log_probs"], mask)
        sampled, actor, rollout = (x.to_padded_tensor(0) for x in (mask, own, data["rollout_log_probs"]))
        gaps = torch.where(sampled.bool(), (rollout - actor).abs(), 0.0)
        part = gaps.sum() * data["dp_size"] / data["batch_num_tokens"]
    data = data.copy()
    data["old_log_probs"] = own
    loss, metrics = ppo_loss(config, model_output, data, dp_group)
    metrics[MAX] = Metric(AggregationType.MAX, gaps.max())
    metrics[MEAN] = Metric(AggregationType.SUM, part)
    return loss, metrics


def logged(metrics: dict[str, Any], loss_agg_mode: str, responses: int, real: int) -> None:
    """Give the metrics of an update the names and meanings that they have with the pass; changes ``metrics``.

    Args:
        metrics: of the step, after the update.
        loss_agg_mode: of the actor.
        responses: in the batch, those that verl adds to fill it included.
        real: without these.
    """
    for name in (MAX, MEAN):
        metrics[name] = metrics.pop(_PREFIX + name)
    # In the loss, a mean over responses counts those that were added; in the pass it does not.
    factor = responses / real if loss_agg_mode.startswith("seq-mean") else 1.0
    metrics[ENTROPY] = float(metrics["actor/entropy_loss"]) * factor


def check_one_update(responses: int, mini_batch: int) -> None:
    """Refuse a batch that is larger than a mini-batch, both in responses.

    Raises:
        SeveralUpdatesError: it is; an agent loop may give several outputs a response.
    """
    if responses > mini_batch:
        raise SeveralUpdatesError(
            f"the batch has {responses} responses, but a mini-batch has {mini_batch}: it would make more than one "
            "update. Set mer_r1.old_log_probs=pass."
        )
