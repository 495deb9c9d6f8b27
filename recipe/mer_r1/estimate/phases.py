"""How long the phases of an RL step take on a GPU: what it computes, what it moves, and which of the two is longer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from omegaconf import DictConfig

from recipe.mer_r1.estimate import packing
from recipe.mer_r1.estimate.links import Mesh, Traffic
from recipe.mer_r1.estimate.packing import Batch
from recipe.mer_r1.estimate.workload import Clip, Model
from recipe.mer_r1.method.experiments import reads_confidence
from recipe.mer_r1.run.on_policy import keeps_forwards, skips_pass
from verl_ext.models.flops import text_forward

BYTES = {"fp32": 4, "bf16": 2, "float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Phase:
    """Of one GPU in one step.

    Attributes:
        flops: computed.
        gb: read from its memory (generation) or moved over links (the others).
        compute, move: seconds that each takes; they overlap.
        batch: its micro-batches, where it has any.
    """

    name: str
    flops: float
    gb: float
    compute: float
    move: float
    batch: Batch | None = None

    @property
    def seconds(self) -> float:
        """The longer of the two."""
        return max(self.compute, self.move)


def phases(config: DictConfig, assumed: DictConfig, model: Model, clip: Clip) -> Iterator[Phase]:
    """The phases of a step, in its order; without the old log-probs where they are the update's own."""
    preset, gpu, reached = config.preset, assumed.gpu, assumed.reached
    actor = config.actor_rollout_ref.actor
    response = assumed.response_tokens

    yield _generation(config, assumed, model, clip)

    def trained(name: str, flops: float, traffic: Traffic, batch: Batch | None) -> Phase:
        compute = flops / (gpu.tflops * 1e12 * reached.training)
        return Phase(name, flops, traffic.gb, compute, traffic.seconds, batch)

    mesh = Mesh.of(preset, assumed, actor.fsdp_config.fsdp_size)
    keeps = not actor.fsdp_config.reshard_after_forward
    weights = model.all * BYTES[preset.mixed_precision.param_dtype]
    kept = False
    if not skips_pass(config):
        branch = assumed.answer_tokens if reads_confidence(config) else 0
        batch = packing.batch(config, clip, response, branch)
        # Weights that stay gathered after a forward are there for the next one.
        gathers = 1 if keeps else batch.forwards
        kept = batch.forwards <= keeps_forwards(config)
        yield trained("old log-probs", batch.flops(model, clip), mesh.gather(weights) * gathers, batch)
    batch = packing.batch(config, clip, response)
    forward = batch.flops(model, clip)
    if actor.use_kl_loss:
        reference = Mesh.of(preset, assumed, config.actor_rollout_ref.ref.fsdp_config.fsdp_size)
        yield trained("reference", forward, reference.gather(weights) * batch.forwards, batch)
    # Backward: twice the forward pass, once where the weights themselves are frozen (LoRA); checkpointing repeats one.
    # The forward may be the one of the old log-probs.
    passes = (not kept) + (1 if preset.lora.rank else 2) + bool(preset.gradient_checkpointing)
    # Weights are gathered for the forward and again for the backward pass of every micro-batch.
    gathered = mesh.gather(weights) * (batch.forwards * (1 if keeps or kept else 2))
    gradients = model.trained * BYTES[preset.mixed_precision.reduce_dtype]
    late = actor.fsdp_config.use_no_sync_for_gradient_accumulation  # once, after the last micro-batch
    reduced = mesh.reduce(gradients) * (1 if late else batch.forwards)
    yield trained("update", passes * forward, gathered + reduced, batch)
    yield trained("weights to vLLM", 0.0, mesh.gather(model.trained * BYTES[preset.model_dtype]), None)


def _generation(config: DictConfig, assumed: DictConfig, model: Model, clip: Clip) -> Phase:
    """Prompts once a group (prefix cache), then a token at a time: all weights and the cache are read for each."""
    preset, gpu, reached = config.preset, assumed.gpu, assumed.reached
    text = model.config.text_config
    gpus = preset.nnodes * preset.ranks_per_node
    sequences = preset.prompts_per_step * preset.responses_per_prompt / gpus
    size = BYTES[preset.rollout.dtype]
    prefill = preset.prompts_per_step / gpus * (clip.tower_flops + text_forward(text, [clip.prompt], head_positions=1))
    key_value = 2 * text.num_hidden_layers * text.num_key_value_heads * text.hidden_size // text.num_attention_heads
    cached = max(sequences, 1) * key_value * (clip.prompt + assumed.response_tokens / 2)
    read = assumed.response_tokens * size * (model.text + cached) / preset.rollout.tensor_parallel / 1e9
    decoding = read / (gpu.memory_gb_s * reached.decoding)
    return Phase("generation", prefill, read, prefill / (gpu.tflops * 1e12 * reached.prefill) + decoding, 0.0)
