"""conf/mode/: what one override sets, and what is refused before anything starts."""

import pytest

from recipe.mer_r1 import modes
from recipe.mer_r1.launch import compose

SEPARATE = "mode=separate_async"


def test_sync_is_the_default_and_adds_no_pool():
    config = compose("ppo", [])
    assert config.trainer.v1.trainer_mode == "mer_r1_sync"
    assert config.ray_kwargs.ray_init.num_gpus == 1
    assert config.actor_rollout_ref.rollout.checkpoint_engine.backend == "naive"
    modes.check_mode(config)


def test_separate_async_sizes_two_pools():
    config = compose("ppo", [SEPARATE, "preset.ranks_per_node=2", "mode.rollout_ranks_per_node=3"])
    assert config.trainer.v1.trainer_mode == "mer_r1_separate_async"
    assert config.trainer.n_gpus_per_node == 2
    assert config.actor_rollout_ref.rollout.nnodes * config.actor_rollout_ref.rollout.n_gpus_per_node == 3
    assert config.ray_kwargs.ray_init.num_gpus == 5
    assert config.actor_rollout_ref.hybrid_engine is False
    assert config.actor_rollout_ref.rollout.checkpoint_engine.backend == "gloo"


def test_an_update_has_the_prompts_that_it_has_in_sync_mode():
    config = compose("ppo", [SEPARATE, "preset.prompts_per_step=6", "mode.updates_per_sync=3"])
    assert config.actor_rollout_ref.actor.ppo_mini_batch_size == 6
    assert config.data.train_batch_size == 18
    assert config.trainer.v1.separate_async.parameter_sync_step == 3


def test_modes_do_not_share_a_run_folder():
    """A run resumes what its folder holds."""
    folders = {compose("ppo", [f"mode={name}"]).run_dir for name in ("sync", "colocate_async", "separate_async")}
    assert len(folders) == 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["mode.rollout_nodes=0"], "mode.rollout_nodes × mode.rollout_ranks_per_node = 0"),
        (["preset.rollout.tensor_parallel=2"], "preset.rollout.tensor_parallel=2"),
        (["mode.updates_per_sync=0"], "mode.updates_per_sync=0"),
        (["mode.prefetch=2.5", "mode.max_versions=2"], "mode.prefetch=2.5 steps sent ahead, mode.max_versions=2"),
    ],
)
def test_a_mode_that_cannot_run_is_refused(overrides, message):
    with pytest.raises(modes.ModeError, match=message):
        modes.check_mode(compose("ppo", [SEPARATE, *overrides]))


@pytest.mark.seam
@pytest.mark.parametrize(("weights", "message"), [("naive", "within one process"), ("pigeon", "pigeon not registered")])
def test_a_transport_that_is_none_is_refused(weights, message):
    with pytest.raises(modes.ModeError, match=message):
        modes.check_mode(compose("ppo", [SEPARATE, f"mode.weights={weights}"]))


@pytest.mark.seam
def test_the_mode_as_it_stands_passes():
    modes.check_mode(compose("ppo", [SEPARATE]))
