"""Every preset on every cluster composes, passes verl's own checks, and divides its batches among the ranks."""

import pytest
from test_presets import CLUSTERS, PRESETS

from recipe.mer_r1.run import launch

pytestmark = pytest.mark.seam


@pytest.fixture(scope="module")
def validate():
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    def call(config):
        validate_config(config, need_reference_policy(config), need_critic(config))

    return call


# Small presets run where they say; the clusters are for Qwen2.5-Omni's sizes.
PAIRS = [(preset, "preset") for preset in PRESETS]
PAIRS += [("smol", "gpu_1x1")]
PAIRS += [(preset, cluster) for preset in ("omni3b", "omni7b") for cluster in CLUSTERS if cluster.startswith("h100")]


@pytest.mark.parametrize(("preset", "cluster"), PAIRS)
def test_composes_and_validates(preset, cluster, validate):
    config = launch.compose("ppo", [f"preset={preset}", f"cluster={cluster}", "experiment=mer_r1"])
    validate(config)
    ranks = config.trainer.nnodes * config.trainer.n_gpus_per_node
    responses = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
    assert responses % (ranks * config.preset.micro_batch_size) == 0
    assert config.preset.sft.batch_size % (ranks * config.preset.sft.micro_batch_size) == 0
    if cluster != "preset":
        assert config.trainer.device == "cuda"
    lora = config.actor_rollout_ref.model.lora_rank > 0
    assert lora == cluster.endswith("lora")
    # vLLM gets adapters alone; without its own weights below them it would sample noise.
    assert config.actor_rollout_ref.rollout.load_format == ("safetensors" if lora else "dummy")


@pytest.mark.parametrize("preset", PRESETS)
def test_sft_composes_into_verls_dataclasses(preset):
    from verl.utils.config import omega_conf_to_dataclass

    config = launch.compose("sft", [f"preset={preset}", "cluster=h100_1x1_lora"])
    engine, optim = omega_conf_to_dataclass(config.engine), omega_conf_to_dataclass(config.optim)
    assert (engine.strategy, optim.lr) == ("fsdp2", 2e-4)
    assert config.model.lora_rank == 32
    sft = config.preset.sft
    assert config.data.draws == (sft.steps and sft.steps * sft.batch_size)
    assert config.data.passes == sft.epochs
