"""How much of a GPU's memory the phases of a step need, in GB."""

from __future__ import annotations

from omegaconf import DictConfig

from recipe.mer_r1.estimate.phases import BYTES
from recipe.mer_r1.estimate.workload import Clip, Model

# Of a position's logits: as computed, in fp32, and the gradient of these.
_LOGIT_BYTES = 2 + 4 + 4
# Of a position in the block that is computed anew, in widths: what its backward pass keeps.
_BLOCK_WIDTHS = 34


def update(config: DictConfig, assumed: DictConfig, model: Model, clip: Clip) -> dict[str, float]:
    """While the weights are updated."""
    preset, text = config.preset, model.config.text_config
    gpus = preset.nnodes * preset.ranks_per_node
    held, trained = model.all / gpus, model.trained / gpus
    size, compute = BYTES[preset.model_dtype], BYTES[preset.mixed_precision.param_dtype]
    positions = preset.micro_batch_size * (clip.prompt + assumed.response_tokens)
    kept = text.num_hidden_layers if preset.gradient_checkpointing else text.num_hidden_layers * _BLOCK_WIDTHS
    return {
        "weights": held * size / 1e9,
        "gradients": trained * size / 1e9,
        "Adam's moments": 2 * trained * size / 1e9,
        # Two units: the one in use and the next.
        "gathered units": 0.0 if gpus == 1 else 2 * model.unit * compute / 1e9,
        "activations": positions * text.hidden_size * compute * (kept + _BLOCK_WIDTHS) / 1e9,
        "logits": positions * text.vocab_size * _LOGIT_BYTES / 1e9,
        "context": assumed.context_gb,
    }


def generation(config: DictConfig, assumed: DictConfig, model: Model) -> dict[str, float]:
    """While vLLM is awake, beside what the actor keeps on the GPU."""
    preset = config.preset
    gpus = preset.nnodes * preset.ranks_per_node
    size = BYTES[preset.model_dtype]
    return {
        "vLLM (memory_utilization)": preset.rollout.memory_utilization * assumed.gpu.memory_gb,
        "weights": 0.0 if preset.offload.parameters else model.all / gpus * size / 1e9,
        "Adam's moments": 0.0 if preset.offload.optimizer else 2 * model.trained / gpus * size / 1e9,
        "context": assumed.context_gb,
    }


def vllm_needs(config: DictConfig, model: Model) -> float:
    """GB of vLLM's own weights, which its share of the memory has to hold."""
    return model.all * BYTES[config.preset.rollout.dtype] / config.preset.rollout.tensor_parallel / 1e9
