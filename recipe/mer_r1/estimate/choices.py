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

FSDP_SIZE = "preset.fsdp_size"
RESPONSES, TOKENS = "preset.micro_batch_size", "preset.micro_batch_tokens"
RESHARD = "actor_rollout_ref.actor.fsdp_config.reshard_after_forward"
_FOLLOWS = {FSDP_SIZE: [f"actor_rollout_ref.{role}.fsdp_config.fsdp_size" for role in ("actor", "ref")]}
_MOST_RESPONSES = 4
"""In a micro-batch that is counted in responses."""
_SMALLER, _LARGER = 3, 1
"""How often a limit in tokens is halved and doubled."""
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
    """Shards on all GPUs or in each node; the size of a micro-batch; weights freed after a forward pass or kept."""
    for settings in _settings(config, assumed, model, clip):
        changed = config.copy()
        for key, value in settings.items():
            for name in (key, *_FOLLOWS.get(key, ())):
                OmegaConf.update(changed, name, value)
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

    What is set wins where the printed seconds are equal.

    Args:
        found: the choices.
        memory_gb: of a GPU.
    """
    fitting = [choice for choice in found if choice.fits]
    limit = CLOSE * min((choice.seconds for choice in fitting), default=0.0)
    fast = [choice for choice in fitting if choice.seconds <= limit]
    least = min((choice.gb for choice in fast), default=0.0)
    small = [choice for choice in fast if choice.gb <= least + SMALL_SHARE * memory_gb]
    return min(small, key=lambda choice: (round(choice.seconds, 1), not choice.is_set, choice.seconds), default=None)


def _settings(config: DictConfig, assumed: DictConfig, model: Model, clip: Clip) -> Iterator[dict[str, int | bool]]:
    """The one that is set among them."""
    preset = config.preset
    gpus = preset.nnodes * preset.ranks_per_node
    sizes = {preset.fsdp_size: None, -1: None}
    if preset.nnodes > 1:
        sizes[preset.ranks_per_node] = None
    if preset.micro_batch_tokens is None:
        key, micro_batches = RESPONSES, _responses(config, gpus)
    else:
        key, micro_batches = TOKENS, _limits(config, assumed, model, clip)
    resharding = (True, False) if gpus > 1 else (config.actor_rollout_ref.actor.fsdp_config.reshard_after_forward,)
    for fsdp_size, micro_batch, reshard in product(sizes, micro_batches, resharding):
        yield {FSDP_SIZE: fsdp_size, key: micro_batch, RESHARD: reshard}


def _responses(config: DictConfig, gpus: int) -> list[int]:
    """Of a micro-batch."""
    preset = config.preset
    responses = max(1, math.ceil(preset.prompts_per_step * preset.responses_per_prompt / gpus))
    return sorted({preset.micro_batch_size, *(size for size in (1, 2, _MOST_RESPONSES) if responses % size == 0)})


def _limits(config: DictConfig, assumed: DictConfig, model: Model, clip: Clip) -> list[int]:
    """Tokens of a micro-batch: the limit that is set, halves and doubles of it; one of those that cut the same way."""
    limit = config.preset.micro_batch_tokens
    larger = [limit << times for times in range(1, _LARGER + 1)]
    smaller = [limit >> times for times in range(1, _SMALLER + 1)]
    found: dict[object, int] = {}
    for tokens in [limit, *larger, *(tokens for tokens in smaller if tokens)]:
        changed = config.copy()
        changed.preset.micro_batch_tokens = tokens
        cut = tuple(phase.batch.rows for phase in phases(changed, assumed, model, clip) if phase.batch)
        found.setdefault(cut, tokens)
    return sorted(found.values())


def tokens_saved(config: DictConfig, clip: Clip, response: int) -> float:
    """How many times fewer tokens the update reads than with a row for every response."""
    plain = config.copy()
    plain.mer_r1.shared_prompt = False
    return packing.batch(plain, clip, response).tokens / packing.batch(config, clip, response).tokens
