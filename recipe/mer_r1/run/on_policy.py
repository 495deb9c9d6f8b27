"""Where the log-probs of π_old (Eq. 3) come from: a pass of the actor before the update, or the update's own forward.

If a batch makes one update, π_old is the policy that the update starts from. Its log-probs are then those of the
update's own forward, without their gradient, and a pass for them would compute the same numbers once more. The key
``mer_r1.old_log_probs`` decides; this file reads it and needs no verl.

The slow-fast confidence needs a pass, because the advantages are made of it. If that is the only reason, the update
uses the pass's forward again (:mod:`verl_ext.actor.kept_forward`), so that a step still makes one forward.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig

from recipe.mer_r1.method.experiments import reads_confidence

KEY = "mer_r1.old_log_probs"
PASS, UPDATE, AUTO = "pass", "update", "auto"
TRAINER = "mer_r1_sync"
"""The only trainer that can leave the pass out."""
_CONFIDENCE = "slow-fast confidence, which is read in this pass"


class OldLogProbsError(ValueError):
    """A value of the key that cannot be; the message says what to do."""


def skips_pass(config: DictConfig) -> bool:
    """Whether the run makes no log-prob pass of the actor before the update. Cheap; composed configuration of RL."""
    choice = config.mer_r1.old_log_probs
    return choice == UPDATE or (choice == AUTO and needs_pass(config) is None)


def needs_pass(config: DictConfig) -> str | None:
    """The first reason why the update's own log-probs will not do; None where they will."""
    return next(_reasons(config), None)


def keeps_forwards(config: DictConfig) -> int:
    """The most micro-batches of the pass whose forward the update uses again; 0: the update makes its own."""
    preset = config.preset
    # verl moves offloaded weights between the pass and the update; with LoRA the reference's pass goes through the
    # same module in between.
    possible = preset.micro_batch_tokens is not None and not preset.offload.parameters and not preset.lora.rank
    alone = config.mer_r1.old_log_probs != UPDATE and list(_reasons(config)) == [_CONFIDENCE]
    return preset.kept_forwards if possible and alone else 0


def check(config: DictConfig) -> None:
    """The key's value exists and can be obeyed.

    Raises:
        OldLogProbsError: it does not exist, or the update's log-probs are asked for where they are not those of π_old.
    """
    choice = config.mer_r1.old_log_probs
    if choice not in (AUTO, PASS, UPDATE):
        raise OldLogProbsError(f"{KEY}={choice}: choose one of {AUTO}, {PASS}, {UPDATE}.")
    reason = needs_pass(config)
    if choice == UPDATE and reason:
        raise OldLogProbsError(f"{KEY}={UPDATE} is not possible with {reason}. Use {KEY}={AUTO}.")


def settle(config: DictConfig) -> str:
    """Write the decision into the configuration, before a worker starts; returns a line for the log.

    Without the pass verl has no log-probs for its ``rollout_correction``, which then only logs: it is taken out.
    """
    reason = needs_pass(config)
    if skips_pass(config):
        config.mer_r1.old_log_probs = UPDATE
        config.algorithm.rollout_correction = None
        return "old log-probs: those of the update itself, because each batch makes one update; no pass for them"
    asked = config.mer_r1.old_log_probs
    config.mer_r1.old_log_probs = PASS
    used = "; the update uses its forward again" if keeps_forwards(config) else ""
    return f"old log-probs: a pass of the actor before the update ({reason or f'{KEY}={asked}'}){used}"


def _reasons(config: DictConfig) -> Iterator[str]:
    actor, algorithm = config.actor_rollout_ref.actor, config.algorithm
    if config.trainer.v1.trainer_mode != TRAINER:
        yield f"trainer.v1.trainer_mode={config.trainer.v1.trainer_mode}"
    if actor.ppo_epochs != 1:
        yield f"actor_rollout_ref.actor.ppo_epochs={actor.ppo_epochs}"
    if actor.ppo_mini_batch_size < config.data.train_batch_size:
        yield (
            f"actor_rollout_ref.actor.ppo_mini_batch_size={actor.ppo_mini_batch_size}, less than "
            f"data.train_batch_size={config.data.train_batch_size}"
        )
    if algorithm.use_kl_in_reward:
        yield "algorithm.use_kl_in_reward=true"
    yield from (f"algorithm.rollout_correction.{key}" for key in _corrections(algorithm.get("rollout_correction")))
    if actor.policy_loss.loss_mode == "bypass_mode":  # reads the rollout's log-probs as old ones
        yield "actor_rollout_ref.actor.policy_loss.loss_mode=bypass_mode"
    if (config.get("distillation") or {}).get("enabled", False):  # has a loss of its own
        yield "distillation.enabled=true"
    if reads_confidence(config):
        yield _CONFIDENCE
    # What the pass also logs must come from an update at every step.
    if not (actor.calculate_entropy or actor.entropy_coeff):
        yield "actor_rollout_ref.actor.calculate_entropy=false"
    if config.trainer.critic_warmup:
        yield f"trainer.critic_warmup={config.trainer.critic_warmup}"


def _corrections(settings: Any) -> Iterator[str]:
    """What of verl's ``rollout_correction`` changes the loss."""
    for key in ("rollout_is", "rollout_rs", "bypass_mode"):
        if value := (settings or {}).get(key):
            yield f"{key}={value}"
