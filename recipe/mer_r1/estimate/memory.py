"""How much of a GPU's memory the phases of a step need, in GB."""

from __future__ import annotations

from omegaconf import DictConfig

from recipe.mer_r1.estimate import packing
from recipe.mer_r1.estimate.links import Mesh
from recipe.mer_r1.estimate.phases import BYTES
from recipe.mer_r1.estimate.workload import Clip, Model
from verl_ext.models.head import CHUNK_ELEMENTS

# Of a position's logits: as computed, in fp32, and the gradient of these.
_LOGIT_BYTES = 2 + 4 + 4
# Of a position in the block that is computed anew, in widths: what its backward pass keeps.
_BLOCK_WIDTHS = 34


def update(config: DictConfig, assumed: DictConfig, model: Model, clip: Clip) -> dict[str, float]:
    """While the weights are updated."""
    preset, text = config.preset, model.config.text_config
    fsdp = config.actor_rollout_ref.actor.fsdp_config
    mesh = Mesh.of(preset, assumed, fsdp.fsdp_size)
    held, trained = model.all / mesh.shards, model.trained / mesh.shards
    size, compute = BYTES[preset.model_dtype], BYTES[preset.mixed_precision.param_dtype]
    batch = packing.batch(config, clip, assumed.response_tokens)
    tokens, scored = batch.largest
    # A shared forward makes logits of the responses alone, a chunk at a time (`verl_ext/models/head.py`).
    logits = min(scored, max(1, CHUNK_ELEMENTS // text.vocab_size)) if batch.shared else tokens
    kept = text.num_hidden_layers if preset.gradient_checkpointing else text.num_hidden_layers * _BLOCK_WIDTHS
    # Not resharded after the forward pass: all. Else two units: the one in use and the next.
    gathered = model.all if not fsdp.reshard_after_forward else 2 * model.unit
    # In full on every GPU, until the last micro-batch.
    waiting = model.trained if fsdp.use_no_sync_for_gradient_accumulation and batch.forwards > 1 else 0
    return {
        "weights": held * size / 1e9,
        "gradients": trained * size / 1e9,
        "gradients to be reduced": waiting * BYTES[preset.mixed_precision.reduce_dtype] / 1e9,
        "Adam's moments": 2 * trained * size / 1e9,
        "gathered weights": 0.0 if mesh.shards == 1 else gathered * compute / 1e9,
        "activations": tokens * text.hidden_size * compute * (kept + _BLOCK_WIDTHS) / 1e9,
        "logits": logits * text.vocab_size * _LOGIT_BYTES / 1e9,
        "context": assumed.context_gb,
    }


def generation(config: DictConfig, assumed: DictConfig, model: Model) -> dict[str, float]:
    """While vLLM is awake, beside what the actor keeps on the GPU."""
    preset = config.preset
    shards = Mesh.of(preset, assumed, config.actor_rollout_ref.actor.fsdp_config.fsdp_size).shards
    size = BYTES[preset.model_dtype]
    return {
        "vLLM (memory_utilization)": preset.rollout.memory_utilization * assumed.gpu.memory_gb,
        "weights": 0.0 if preset.offload.parameters else model.all / shards * size / 1e9,
        "Adam's moments": 0.0 if preset.offload.optimizer else 2 * model.trained / shards * size / 1e9,
        "context": assumed.context_gb,
    }


def vllm_needs(config: DictConfig, model: Model) -> float:
    """GB of vLLM's own weights, which its share of the memory has to hold."""
    return model.all * BYTES[config.preset.rollout.dtype] / config.preset.rollout.tensor_parallel / 1e9
