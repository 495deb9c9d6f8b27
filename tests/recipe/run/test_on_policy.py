"""When the log-prob pass before the update is left out: by what is set, never by an experiment's name."""

import pytest
from omegaconf import OmegaConf

from recipe.mer_r1.run import launch, on_policy, preflight

UPDATE = "mer_r1.old_log_probs=update"
NEEDED = {
    "mode=colocate_async": "trainer.v1.trainer_mode=mer_r1_colocate_async",
    "mode=separate_async": "trainer.v1.trainer_mode=mer_r1_separate_async",
    "trainer.v1.trainer_mode=sync": "trainer.v1.trainer_mode=sync",
    "actor_rollout_ref.actor.ppo_epochs=2": "actor_rollout_ref.actor.ppo_epochs=2",
    "actor_rollout_ref.actor.ppo_mini_batch_size=12": "ppo_mini_batch_size=12, less than data.train_batch_size=24",
    "data.train_batch_size=25": "ppo_mini_batch_size=24, less than data.train_batch_size=25",
    "algorithm.use_kl_in_reward=true": "algorithm.use_kl_in_reward=true",
    "algorithm.rollout_correction.rollout_is=token": "algorithm.rollout_correction.rollout_is=token",
    "algorithm.rollout_correction.rollout_rs=token_k1": "algorithm.rollout_correction.rollout_rs=token_k1",
    "algorithm.rollout_correction.bypass_mode=true": "algorithm.rollout_correction.bypass_mode=True",
    "actor_rollout_ref.actor.policy_loss.loss_mode=bypass_mode": "policy_loss.loss_mode=bypass_mode",
    "distillation.enabled=true": "distillation.enabled=true",
    "actor_rollout_ref.actor.calculate_entropy=false": "actor_rollout_ref.actor.calculate_entropy=false",
    "trainer.critic_warmup=1": "trainer.critic_warmup=1",
    "mer_r1.confidence.always=true": "slow-fast confidence",
    "experiment=mer_r1": "slow-fast confidence",
    "experiment=b1": "slow-fast confidence",
    "algorithm.adv_estimator=a2": "slow-fast confidence",
    "mer_r1.terms=[{signals: {calib_pos: 1.0}}]": "slow-fast confidence",
}
SAME = (
    "preset=tiny",
    "preset=omni7b cluster=h100_2x8",
    "cluster=h100_1x1_lora",
    "experiment=rd_ad",
    "experiment=gdpo",
    "algorithm.adv_estimator=grpo",
    "experiment=mer_r1 algorithm.adv_estimator=rd",
    "algorithm.rollout_correction.rollout_is_threshold=5.0",  # of no weights
    "algorithm.rollout_correction=null",
    "data.train_batch_size=12",  # the mini-batch is filled with padding
    "actor_rollout_ref.actor.calculate_entropy=false actor_rollout_ref.actor.entropy_coeff=0.01",
    "actor_rollout_ref.actor.policy_loss.loss_mode=gspo",
    "actor_rollout_ref.actor.use_kl_loss=false",
)


def composed(*overrides):
    return launch.compose("ppo", ["preset=tiny", "experiment=baseline", *overrides])


@pytest.mark.parametrize("override", NEEDED)
def test_what_needs_the_pass_is_named_and_refuses_to_go_without(override):
    config = composed(override)
    assert NEEDED[override] in on_policy.needs_pass(config)
    assert not on_policy.skips_pass(config)
    with pytest.raises(on_policy.OldLogProbsError) as caught:
        on_policy.check(composed(override, UPDATE))
    assert str(caught.value).startswith(f"{UPDATE} is not possible with ")
    assert NEEDED[override] in str(caught.value)
    assert "Use mer_r1.old_log_probs=auto" in str(caught.value)
    before = OmegaConf.to_container(config)
    line = on_policy.settle(config)
    assert line.startswith("old log-probs: a pass of the actor before the update (")
    assert NEEDED[override] in line
    before["mer_r1"]["old_log_probs"] = "pass"
    assert OmegaConf.to_container(config) == before


@pytest.mark.parametrize("overrides", SAME)
@pytest.mark.parametrize("choice", ["auto", "update"])
def test_where_the_updates_own_log_probs_are_the_same_there_is_no_pass(choice, overrides):
    config = composed(*overrides.split(), f"mer_r1.old_log_probs={choice}")
    on_policy.check(config)
    assert on_policy.skips_pass(config)
    before = OmegaConf.to_container(config)
    assert "no pass for them" in on_policy.settle(config)
    before["mer_r1"]["old_log_probs"], before["algorithm"]["rollout_correction"] = "update", None
    assert OmegaConf.to_container(config) == before
    assert on_policy.skips_pass(config), "a settled configuration is read as before"
    assert on_policy.needs_pass(config) is None


def test_the_pass_can_be_asked_for():
    config = composed("mer_r1.old_log_probs=pass")
    on_policy.check(config)
    assert not on_policy.skips_pass(config)
    assert on_policy.settle(config).endswith("(mer_r1.old_log_probs=pass)")
    assert config.algorithm.rollout_correction is not None


def test_another_value_is_refused_before_a_worker_starts():
    config = composed("mer_r1.old_log_probs=never")
    with pytest.raises(preflight.PreflightError, match=r"old_log_probs=never: choose one of auto, pass, update\.$"):
        preflight.check_ppo(config)
