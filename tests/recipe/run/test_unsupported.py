"""Settings that do not work with the Thinker are refused by their own names, in RL and in SFT."""

import pytest

from recipe.mer_r1.run import launch
from recipe.mer_r1.run.unsupported import UnsupportedError, check_unsupported

RL, SFT = "ppo", "sft"


@pytest.mark.parametrize(
    ("kind", "override", "message"),
    [
        (RL, "actor_rollout_ref.model.use_fused_kernels=true", r"use_fused_kernels=True: verl's fused kernels"),
        (RL, "actor_rollout_ref.actor.ulysses_sequence_parallel_size=2", r"actor.*_size=2: verl cuts a sequence"),
        (RL, "actor_rollout_ref.ref.ulysses_sequence_parallel_size=4", r"^actor_rollout_ref\.ref\..*=4: verl cuts"),
        (RL, "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size=2", r"fsdp_config\..*=2: verl cuts"),
        (RL, "actor_rollout_ref.model.use_remove_padding=true", "preset.attention=sdpa the sequences of a micro-batch"),
        (SFT, "model.use_fused_kernels=true", "^model.use_fused_kernels=True"),
        (SFT, "engine.ulysses_sequence_parallel_size=2", "^engine.ulysses_sequence_parallel_size=2"),
        (SFT, "model.use_remove_padding=true", "^model.use_remove_padding=True: with preset.attention=sdpa"),
    ],
)
def test_each_is_refused(kind, override, message):
    with pytest.raises(UnsupportedError, match=message):
        check_unsupported(launch.compose(kind, [override]))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["preset.rollout.executor=uni", "preset.rollout.tensor_parallel=2"], r"=uni: .*tensor_parallel=2 .* for 2; "),
        (["actor_rollout_ref.rollout.pipeline_model_parallel_size=3"], r"=uni: .* asks for 3; .*executor=mp\.$"),
        (["preset.rollout.executor=multi"], r"^preset\.rollout\.executor .*=multi: unknown .* one of uni, mp\.$"),
        (["preset.rollout.executor=null"], "executor .*=None: unknown"),
        (["actor_rollout_ref.rollout.engine_kwargs.vllm.distributed_executor_backend=ray"], "=ray: unknown executor"),
    ],
)
def test_an_executor_that_cannot_work_is_refused(overrides, message):
    with pytest.raises(UnsupportedError, match=message):
        check_unsupported(launch.compose(RL, overrides))


@pytest.mark.parametrize("preset", ["tiny", "omni7b"])
def test_several_workers_of_vllm_pass_in_processes_of_their_own(preset):
    check_unsupported(
        launch.compose(RL, [f"preset={preset}", "preset.rollout.executor=mp", "preset.rollout.tensor_parallel=2"])
    )
    backend = "~actor_rollout_ref.rollout.engine_kwargs.vllm.distributed_executor_backend"  # verl's own: mp
    check_unsupported(launch.compose(RL, [f"preset={preset}", "preset.rollout.tensor_parallel=2", backend]))


@pytest.mark.parametrize("preset", ["tiny", "smol", "omni3b", "omni7b"])
@pytest.mark.parametrize("kind", [RL, SFT])
def test_the_presets_pass(kind, preset):
    check_unsupported(launch.compose(kind, [f"preset={preset}"]))


@pytest.mark.parametrize(("kind", "model"), [(RL, "actor_rollout_ref.model"), (SFT, "model")])
def test_removed_padding_passes_with_flash_attention(kind, model):
    overrides = [f"{model}.use_remove_padding=true", "preset.attention=flash_attention_2"]
    check_unsupported(launch.compose(kind, overrides))
