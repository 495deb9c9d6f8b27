"""Settings that do not work with the Thinker are refused by their own names, in RL and in SFT."""

import pytest
from omegaconf import OmegaConf

from recipe.mer_r1.run import launch
from recipe.mer_r1.run.unsupported import UnsupportedError, check_shared_prompt_attention, check_unsupported

RL, SFT = "ppo", "sft"


@pytest.mark.parametrize(
    ("kind", "override", "message"),
    [
        (RL, "actor_rollout_ref.model.use_fused_kernels=true", r"use_fused_kernels=True: verl's fused kernels"),
        (RL, "actor_rollout_ref.actor.ulysses_sequence_parallel_size=2", r"actor.*_size=2: verl cuts a sequence"),
        (RL, "actor_rollout_ref.ref.ulysses_sequence_parallel_size=4", r"^actor_rollout_ref\.ref\..*=4: verl cuts"),
        (RL, "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size=2", r"fsdp_config\..*=2: verl cuts"),
        (RL, "actor_rollout_ref.model.use_remove_padding=true", "preset.attention=sdpa the sequences of a micro-batch"),
        (RL, "preset.fsdp_size=0", r"^actor_rollout_ref\.actor\.fsdp_config\.fsdp_size=0: the 1 ranks cannot"),
        (SFT, "preset.fsdp_size=0", r"^engine\.fsdp_size=0: the 1 ranks cannot"),
        (SFT, "model.use_fused_kernels=true", "^model.use_fused_kernels=True"),
        (SFT, "engine.ulysses_sequence_parallel_size=2", "^engine.ulysses_sequence_parallel_size=2"),
        (SFT, "model.use_remove_padding=true", "^model.use_remove_padding=True: with preset.attention=sdpa"),
    ],
)
def test_each_is_refused(kind, override, message):
    with pytest.raises(UnsupportedError, match=message):
        check_unsupported(launch.compose(kind, [override]))


@pytest.mark.parametrize(("kind", "key"), [(RL, "actor_rollout_ref.actor.fsdp_config"), (SFT, "engine")])
def test_shards_make_equal_groups(kind, key):
    for size in (-1, 1, 2, 8, 16, 32):
        config = launch.compose(kind, ["preset=omni7b", "cluster=h100_2x8", f"preset.fsdp_size={size}"])
        check_unsupported(config)
        assert OmegaConf.select(config, f"{key}.fsdp_size") == size
    with pytest.raises(UnsupportedError, match=r"fsdp_size=6: the 16 ranks cannot make groups of 6"):
        check_unsupported(launch.compose(kind, ["preset=omni7b", "cluster=h100_2x8", "preset.fsdp_size=6"]))


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


KV_BLOCKS = "preset.rollout.kv_blocks"
BLOCK_SIZE = "+actor_rollout_ref.rollout.engine_kwargs.vllm.block_size"


@pytest.mark.parametrize(
    ("overrides", "least"),
    [
        (["preset=tiny"], 3),  # 192 + 64 tokens in blocks of 128, and vLLM's own block
        (["preset=tiny", "preset.max_response_length=65"], 4),
        (["preset=tiny", f"{BLOCK_SIZE}=32"], 9),
        (["preset=omni7b", "preset.max_prompt_length=3000", "preset.max_response_length=200"], 201),  # of 16, on a GPU
    ],
)
def test_a_kv_cache_holds_the_longest_sequence(overrides, least):
    check_unsupported(launch.compose(RL, [*overrides, f"{KV_BLOCKS}={least}"]))
    check_unsupported(launch.compose(RL, [*overrides, f"{KV_BLOCKS}=null"]))
    for blocks in (least - 1, 1, 0, -1):
        message = rf"^preset\.rollout\.kv_blocks .*={blocks}: a sequence of \d+ tokens .* needs {least} blocks"
        with pytest.raises(UnsupportedError, match=message):
            check_unsupported(launch.compose(RL, [*overrides, f"{KV_BLOCKS}={blocks}"]))


@pytest.mark.parametrize("blocks", ["x", "2.5", "true"])
def test_a_kv_cache_has_a_whole_number_of_blocks(blocks):
    with pytest.raises(UnsupportedError, match=r"kv_blocks .*: give a whole number of blocks, or null"):
        check_unsupported(launch.compose(RL, [f"{KV_BLOCKS}={blocks}"]))


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


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["preset=tiny"], "shared_prompt_attention=flex: FlexAttention has no backward pass on a CPU. Use sdpa"),
        (["preset=omni7b", "preset.attention=flash_attention_2"], "with preset.attention=flash_attention_2 no row"),
    ],
)
def test_flex_attention_is_refused_where_it_cannot_train(overrides, message):
    config = launch.compose(RL, [*overrides, "mer_r1.shared_prompt_attention=flex"])
    with pytest.raises(UnsupportedError, match=message):
        check_shared_prompt_attention(config)


def test_an_attention_is_sdpa_or_flex():
    check_shared_prompt_attention(launch.compose(RL, ["preset=omni7b", "mer_r1.shared_prompt_attention=flex"]))
    check_shared_prompt_attention(launch.compose(RL, ["preset=tiny"]))
    with pytest.raises(UnsupportedError, match="shared_prompt_attention=eager: choose sdpa or flex"):
        check_shared_prompt_attention(launch.compose(RL, ["mer_r1.shared_prompt_attention=eager"]))
