"""How long the phases of an RL step take on a GPU: what it computes, what it moves, and which of the two is longer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from omegaconf import DictConfig

from recipe.mer_r1.estimate.workload import Clip, Model, sequence_flops
from recipe.mer_r1.method.experiments import Estimator
from verl_ext.models.flops import text_forward

BYTES = {"fp32": 4, "bf16": 2, "float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Phase:
    """Of one GPU in one step.

    Attributes:
        flops: computed.
        gb: read from its memory (generation) or moved over links (the others).
        compute, move: seconds that each takes; they overlap.
    """

    name: str
    flops: float
    gb: float
    compute: float
    move: float

    @property
    def seconds(self) -> float:
        """The longer of the two."""
        return max(self.compute, self.move)


def reads_confidence(config: DictConfig) -> bool:
    """Whether the log-prob pass reads the fast branch too (Eq. 8)."""
    estimator = Estimator.from_config(config.mer_r1.terms, config.mer_r1.whiten)
    return config.mer_r1.confidence.always or estimator.needs_confidence


def phases(config: DictConfig, assumed: DictConfig, model: Model, clip: Clip) -> Iterator[Phase]:
    """The phases of a step, in its order."""
    preset, gpu, reached = config.preset, assumed.gpu, assumed.reached
    gpus = preset.nnodes * preset.ranks_per_node
    sequences = preset.prompts_per_step * preset.responses_per_prompt / gpus
    link = (gpu.network_gb_s if preset.nnodes > 1 else gpu.node_gb_s) * reached.links
    response = assumed.response_tokens

    yield _generation(config, assumed, model, clip, gpus, sequences)

    # Every micro-batch gathers all weights that the other GPUs hold, forward and backward.
    share = (gpus - 1) / gpus
    micros = -(-sequences // preset.micro_batch_size) if sequences >= 1 else 1
    gathered = share * micros * model.all * BYTES[preset.mixed_precision.param_dtype] / 1e9

    def trained(name: str, flops: float, gb: float) -> Phase:
        return Phase(name, flops, gb, flops / (gpu.tflops * 1e12 * reached.training), gb / link)

    branch = assumed.answer_tokens if reads_confidence(config) else 0
    yield trained("old log-probs", sequences * sequence_flops(model, clip, response, branch), gathered)
    forward = sequence_flops(model, clip, response)
    if config.actor_rollout_ref.actor.use_kl_loss:
        yield trained("reference", sequences * forward, gathered)
    # Backward: twice the forward pass, once where the weights themselves are frozen (LoRA); checkpointing repeats one.
    passes = 1 + (1 if preset.lora.rank else 2) + bool(preset.gradient_checkpointing)
    reduced = share * micros * model.trained * BYTES[preset.mixed_precision.reduce_dtype] / 1e9
    yield trained("update", sequences * passes * forward, 2 * gathered + reduced)
    sent = model.trained * BYTES[preset.model_dtype] / 1e9
    yield trained("weights to vLLM", 0.0, share * sent)


def _generation(
    config: DictConfig, assumed: DictConfig, model: Model, clip: Clip, gpus: int, sequences: float
) -> Phase:
    """Prompts once a group (prefix cache), then a token at a time: all weights and the cache are read for each."""
    preset, gpu, reached = config.preset, assumed.gpu, assumed.reached
    text = model.config.text_config
    size = BYTES[preset.rollout.dtype]
    prefill = preset.prompts_per_step / gpus * (clip.tower_flops + text_forward(text, [clip.prompt], head_positions=1))
    key_value = 2 * text.num_hidden_layers * text.num_key_value_heads * text.hidden_size // text.num_attention_heads
    cached = max(sequences, 1) * key_value * (clip.prompt + assumed.response_tokens / 2)
    read = assumed.response_tokens * size * (model.text + cached) / preset.rollout.tensor_parallel / 1e9
    decoding = read / (gpu.memory_gb_s * reached.decoding)
    return Phase("generation", prefill, read, prefill / (gpu.tflops * 1e12 * reached.prefill) + decoding, 0.0)
