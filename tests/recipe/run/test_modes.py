"""conf/mode/: what one override sets, and what is refused before anything starts."""

import copy

import pytest
from omegaconf import OmegaConf

from recipe.mer_r1.run import modes
from recipe.mer_r1.run.launch import compose

ROLLOUT, V1 = "actor_rollout_ref.rollout", "trainer.v1"


@pytest.fixture(scope="module")
def sync():
    return compose("ppo", [])


@pytest.fixture(scope="module")
def separate():
    """Two ranks for the actor, three for the rollout; three updates of six prompts between two syncs."""
    sizes = ("preset.ranks_per_node=2", "mode.rollout_ranks_per_node=3", "preset.prompts_per_step=6")
    return compose("ppo", ["mode=separate_async", *sizes, "mode.updates_per_sync=3"])


def test_sync_is_the_default_and_adds_no_pool(sync):
    assert sync.trainer.v1.trainer_mode == "mer_r1_sync"
    assert sync.ray_kwargs.ray_init.num_gpus == 1
    assert sync.actor_rollout_ref.rollout.checkpoint_engine.backend == "naive"
    modes.check_mode(sync)


def test_separate_async_sizes_two_pools(separate):
    assert separate.trainer.v1.trainer_mode == "mer_r1_separate_async"
    assert separate.trainer.n_gpus_per_node == 2
    assert separate.actor_rollout_ref.rollout.nnodes * separate.actor_rollout_ref.rollout.n_gpus_per_node == 3
    assert separate.ray_kwargs.ray_init.num_gpus == 5
    assert separate.actor_rollout_ref.hybrid_engine is False
    assert separate.actor_rollout_ref.rollout.checkpoint_engine.backend == "gloo"


def test_an_update_has_the_prompts_that_it_has_in_sync_mode(separate):
    assert separate.actor_rollout_ref.actor.ppo_mini_batch_size == 6
    assert separate.data.train_batch_size == 18
    assert separate.trainer.v1.separate_async.parameter_sync_step == 3


def test_modes_do_not_share_a_run_folder(sync, separate):
    """A run resumes what its folder holds."""
    assert separate.run_dir == f"{sync.run_dir}-separate_async"
    assert compose("ppo", ["mode=colocate_async"]).run_dir == f"{sync.run_dir}-colocate_async"


def changed(config, values):
    config = copy.deepcopy(config)
    for key, value in values.items():
        OmegaConf.update(config, key, value)
    return config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({f"{ROLLOUT}.nnodes": 0}, "mode.rollout_nodes × mode.rollout_ranks_per_node = 0"),
        ({f"{ROLLOUT}.tensor_model_parallel_size": 2}, "preset.rollout.tensor_parallel=2"),
        ({f"{V1}.separate_async.parameter_sync_step": 0}, "mode.updates_per_sync=0"),
        (
            {f"{V1}.separate_async.num_warmup_batches": 2.5, f"{V1}.sampler.max_off_policy_threshold": 2},
            "mode.prefetch=2.5 must be less than mode.max_versions=2",
        ),
    ],
)
def test_a_mode_that_cannot_run_is_refused(separate, values, message):
    with pytest.raises(modes.ModeError, match=message):
        modes.check_mode(changed(separate, values))


@pytest.mark.seam
@pytest.mark.parametrize(("weights", "message"), [("naive", "within one process"), ("pigeon", "pigeon not registered")])
def test_a_transport_that_is_none_is_refused(separate, weights, message):
    with pytest.raises(modes.ModeError, match=message):
        modes.check_mode(changed(separate, {f"{ROLLOUT}.checkpoint_engine.backend": weights}))


@pytest.mark.seam
def test_the_mode_as_it_stands_passes(separate):
    modes.check_mode(separate)
