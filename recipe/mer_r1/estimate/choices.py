"""What a cluster can choose without changing what is learned: the step's seconds and a GPU's memory for each choice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from omegaconf import DictConfig, OmegaConf

from recipe.mer_r1.estimate import memory, packing
from recipe.mer_r1.estimate.phases import phases
from recipe.mer_r1.estimate.workload import Clip, Model

FSDP_SIZE, MICRO_BATCH = "preset.fsdp_size", "preset.micro_batch_size"
RESHARD = "actor_rollout_ref.actor.fsdp_config.reshard_after_forward"
_FOLLOWS = {FSDP_SIZE: [f"actor_rollout_ref.{role}.fsdp_config.fsdp_size" for role in ("actor", "ref")]}
_MOST_RESPONSES = 4
"""In a micro-batch."""
CLOSE = 1.02
"""Times of two choices that differ by less are equal here: an estimate is not better than that."""
SMALL_SHARE = 0.05
"""Of a GPU's memory; less is not worth a slower step."""


@dataclass(frozen=True)
class Choice:
    """One way to run the same step.

    Attributes:
        settings: its keys.
        is_set: whether they are those of the configuration.
        seconds: of the step.
        update_gb, generation_gb: memory of a GPU.
        fits: whether both are at most what a GPU has.
    """

    settings: dict[str, int | bool]
    is_set: bool
    seconds: float
    update_gb: float
    generation_gb: float
    fits: bool

    @property
    def gb(self) -> float:
        """Both together: to compare choices by."""
        return self.update_gb + self.generation_gb


def choices(config: DictConfig, assumed: DictConfig, model: Model, clip: Clip) -> Iterator[Choice]:
    """Shards on all GPUs or in each node; responses in a micro-batch; weights freed after a forward pass or kept."""
    for settings in _settings(config):
        changed = config.copy()
        for key, value in settings.items():
            for name in (key, *_FOLLOWS.get(key, ())):
                OmegaConf.update(changed, name, value)
        if MICRO_BATCH in settings and "micro_batch_tokens" in changed.preset:
            changed.preset.micro_batch_tokens = None
        seconds = sum(phase.seconds for phase in phases(changed, assumed, model, clip)) + assumed.other_seconds
        update = sum(memory.update(changed, assumed, model, clip).values())
        generation = sum(memory.generation(changed, assumed, model).values())
        yield Choice(
            settings,
            all(OmegaConf.select(config, key) == value for key, value in settings.items()),
            seconds,
            update,
            generation,
            max(update, generation) <= assumed.gpu.memory_gb,
        )


def favoured(found: Sequence[Choice], memory_gb: float) -> Choice | None:
    """Of those that fit and are about as fast as the fastest: the fastest that needs about the least memory.

    Args:
        found: the choices.
        memory_gb: of a GPU.
    """
    fitting = [choice for choice in found if choice.fits]
    limit = CLOSE * min((choice.seconds for choice in fitting), default=0.0)
    fast = [choice for choice in fitting if choice.seconds <= limit]
    least = min((choice.gb for choice in fast), default=0.0)
    small = [choice for choice in fast if choice.gb <= least + SMALL_SHARE * memory_gb]
    return min(small, key=lambda choice: choice.seconds, default=None)


def _settings(config: DictConfig) -> Iterator[dict[str, int | bool]]:
    """The one that is set among them."""
    preset = config.preset
    gpus = preset.nnodes * preset.ranks_per_node
    sizes = {preset.fsdp_size: None, -1: None}
    if preset.nnodes > 1:
        sizes[preset.ranks_per_node] = None
    responses = max(1, math.ceil(preset.prompts_per_step * preset.responses_per_prompt / gpus))
    micro_batches = {preset.micro_batch_size, *(size for size in (1, 2, _MOST_RESPONSES) if responses % size == 0)}
    resharding = (True, False) if gpus > 1 else (config.actor_rollout_ref.actor.fsdp_config.reshard_after_forward,)
    for fsdp_size, micro_batch, reshard in product(sizes, sorted(micro_batches), resharding):
        yield {FSDP_SIZE: fsdp_size, MICRO_BATCH: micro_batch, RESHARD: reshard}


def tokens_saved(config: DictConfig, clip: Clip, response: int) -> float:
    """How many times fewer tokens the update reads than with a row for every response."""
    plain = config.copy()
    plain.mer_r1.shared_prompt = False
    return packing.batch(plain, clip, response).tokens / packing.batch(config, clip, response).tokens
