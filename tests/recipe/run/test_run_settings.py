"""What a composed run of experiment=mer_r1 sets, key by key: the values that decide what is learned.

The loss (its clip, how it is averaged) is not here, nor what test_presets.py compares with the paper.
"""

import pytest
from omegaconf import OmegaConf

from recipe.mer_r1.run.launch import compose

SETTINGS = {
    # Eq. 3 has a penalty with β ≥ 0 against the reference and gives β no value: verl's own 0.001, with verl's own
    # estimator of the KL; in the loss, so never in the reward, where terms would ignore it.
    "actor_rollout_ref.actor.use_kl_loss": True,
    "actor_rollout_ref.actor.kl_loss_coef": 0.001,
    "actor_rollout_ref.actor.kl_loss_type": "low_var_kl",
    "algorithm.use_kl_in_reward": False,
    # Eq. 3 has no entropy bonus; one update a batch (C: one epoch, G responses a prompt, on-policy).
    "actor_rollout_ref.actor.entropy_coeff": 0,
    "actor_rollout_ref.actor.ppo_epochs": 1,
    # Ours, verl's own: the policy itself is sampled, without cuts; Eq. 3's ratio is of its probabilities.
    "actor_rollout_ref.rollout.temperature": 1.0,
    "actor_rollout_ref.rollout.top_p": 1,
    "actor_rollout_ref.rollout.top_k": -1,
    "actor_rollout_ref.rollout.do_sample": True,
    # Ours: the paper's scores are of one answer a clip; a greedy one repeats.
    "actor_rollout_ref.rollout.val_kwargs.temperature": 0.0,
    "actor_rollout_ref.rollout.val_kwargs.do_sample": False,
    "actor_rollout_ref.rollout.val_kwargs.n": 1,
    # vLLM's log-probs: the gap to the actor's is logged at every step (docs/observability.md).
    "actor_rollout_ref.rollout.calculate_log_probs": True,
    "algorithm.rollout_correction.bypass_mode": False,
    # The pass for them is left out only where it would compute the update's own (docs/experiments.md, "The loss").
    "mer_r1.old_log_probs": "auto",
    # §5 names a learning rate and no warm-up, schedule or decay: none of them.
    "actor_rollout_ref.actor.optim.lr_scheduler_type": "constant",
    "actor_rollout_ref.actor.optim.lr_warmup_steps_ratio": 0.0,
    "actor_rollout_ref.actor.optim.weight_decay": 0.0,
    # Eq. 5: divided by the group's deviation.
    "algorithm.adv_estimator": "mer_r1",
    "algorithm.norm_adv_by_std_in_grpo": True,
    "mer_r1.whiten": False,
    # Eq. 1's log Σ p(e) needs an end in place of -inf, and a rule for the first tokens that words of several
    # categories share; both ours (docs/experiments.md).
    "mer_r1.confidence": {"always": False, "floor": -20.0, "shared_tokens": "split", "shuffle": False},
    # What is reported as score; the terms of Eq. 12 train.
    "mer_r1.reward": {"f1": 1.0, "format": 1.0},
    "mer_r1.max_missing_share": 0.0,
    "mer_r1.min_thought_tokens": 0,
    # Eq. 8: fast thinking is the thought emptied. Training samples the slow form alone; validation answers in both.
    "data.response_prefixes": {"train": {"slow": ""}, "val": {"slow": "", "fast": "<think></think><answer>"}},
    "data.form": "think_answer",
    # The one forward for all continuations of a prompt: padded rows, an attention that takes a block mask.
    "mer_r1.shared_prompt": True,
    "actor_rollout_ref.model.override_config.shared_prompt": True,
    "mer_r1.shared_prompt_attention": "sdpa",
    "actor_rollout_ref.model.override_config.shared_prompt_attention": "sdpa",
    "actor_rollout_ref.model.use_remove_padding": False,
    "actor_rollout_ref.model.override_config.attn_implementation": "sdpa",
    # The recipe's own classes.
    "data.custom_cls.name": "MERDataset",
    "reward.reward_manager.name": "EmotionRewardManager",
    "reward.reward_manager.module.path": "pkg://recipe.mer_r1.training.reward_manager",
    "actor_rollout_ref.rollout.agent.default_agent_loop": "omni_agent",
}
PRESETS = ("preset=tiny", "preset=smol", "preset=omni3b", "preset=omni7b", "cluster=h100_1x1_lora")
RUNS = (*PRESETS, "mode=colocate_async", "mode=separate_async")


@pytest.fixture(scope="module", params=RUNS)
def config(request):
    return compose("ppo", ["preset=omni7b", "experiment=mer_r1", request.param, "preset.seed=7"])


def test_every_preset_and_mode_learns_by_the_same_settings(config):
    found = {key: OmegaConf.select(config, key, throw_on_missing=True) for key in SETTINGS}
    plain = {
        key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value for key, value in found.items()
    }
    assert plain == SETTINGS


def test_an_update_has_the_presets_sizes(config):
    """As many prompts as a step has, with as many responses each as a group has (Eq. 5), of the preset's lengths."""
    preset, actor, rollout = config.preset, config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    assert config.data.train_batch_size == actor.ppo_mini_batch_size == preset.prompts_per_step
    assert rollout.n == actor.rollout_n == preset.responses_per_prompt
    assert actor.optim.lr == preset.lr
    assert config.data.max_response_length == rollout.response_length == preset.max_response_length
    assert config.data.max_prompt_length == rollout.prompt_length == preset.max_prompt_length
    assert rollout.max_model_len == preset.max_prompt_length + preset.max_response_length
    reference = config.actor_rollout_ref.ref
    assert {config.data.seed, rollout.seed, actor.fsdp_config.seed, reference.fsdp_config.seed} == {7}


TOKENS = {
    "actor_rollout_ref.actor": ("use_dynamic_bsz", "ppo_max_token_len_per_gpu"),
    "actor_rollout_ref.ref": ("log_prob_use_dynamic_bsz", "log_prob_max_token_len_per_gpu"),
    "actor_rollout_ref.rollout": ("log_prob_use_dynamic_bsz", "log_prob_max_token_len_per_gpu"),  # old log-probs
}


@pytest.mark.parametrize("node", TOKENS)
def test_micro_batches_are_counted_in_tokens_in_every_pass_unless_the_preset_says_null(node):
    counts, limit = TOKENS[node]
    for overrides, expected in (
        (["preset=omni7b"], (True, 8192)),
        (["preset=tiny", "preset.micro_batch_tokens=77"], (True, 77)),
        (["preset=tiny", "preset.micro_batch_tokens=null"], (False, 16384)),  # verl's own number, not used
    ):
        found = OmegaConf.select(compose("ppo", overrides), node)
        assert (found[counts], found[limit]) == expected
