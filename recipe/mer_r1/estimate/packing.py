"""What a GPU's micro-batches hold: rows, tokens, operations; with a prompt once for its responses, or once for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from omegaconf import DictConfig

from recipe.mer_r1.estimate.workload import Clip, EstimateError, Model
from verl_ext.actor.split import split
from verl_ext.models.flops import shared_prompt_forward, text_forward


def shares_prompts(config: DictConfig) -> bool:
    """Whether all responses of a prompt in a micro-batch are one row (`mer_r1.shared_prompt`); needs sdpa."""
    return bool(config.mer_r1.shared_prompt) and config.preset.attention == "sdpa"


@dataclass(frozen=True)
class Batch:
    """What a pass does with a GPU's responses, which are all equally long here.

    Attributes:
        rows: by micro-batch: responses in each row. A row is a prompt with responses, and with their branches if any.
        prompt, response, branch: tokens.
        shared: whether rows hold the branches too. Otherwise a micro-batch with branches has a second forward for them.
    """

    rows: tuple[tuple[int, ...], ...]
    prompt: int
    response: int
    branch: int
    shared: bool

    @property
    def forwards(self) -> int:
        """Forward passes of the whole model: each gathers all weights."""
        return len(self.rows) * (2 if self.branch and not self.shared else 1)

    @property
    def tokens(self) -> int:
        """Tokens through the text model, in all micro-batches."""
        total = sum(self.row_tokens(responses) for micro_batch in self.rows for responses in micro_batch)
        apart = self.branch and not self.shared
        return total + (sum(map(len, self.rows)) * (self.prompt + self.branch) if apart else 0)

    @property
    def largest(self) -> tuple[int, int]:
        """Tokens of the largest forward, and of its responses."""
        micro_batch = max(self.rows, key=sum)
        return sum(map(self.row_tokens, micro_batch)), sum(micro_batch) * self.response

    def row_tokens(self, responses: int) -> int:
        """Of a row with so many responses."""
        return self.prompt + responses * (self.response + (self.branch if self.shared else 0))

    def flops(self, model: Model, clip: Clip) -> float:
        """Of the forward passes, encoders included."""
        text, found = model.config.text_config, 0.0
        for responses in (responses for micro_batch in self.rows for responses in micro_batch):
            if self.shared:
                parts = [self.response] * responses + [self.branch] * responses
                found += clip.tower_flops + shared_prompt_forward(text, self.prompt, parts, sum(parts))
                continue
            for continuation in (self.response, self.branch) if self.branch else (self.response,):
                found += clip.tower_flops + text_forward(text, [self.prompt + continuation])
        return found


def batch(config: DictConfig, clip: Clip, response: int, branch: int = 0) -> Batch:
    """A GPU's responses in micro-batches of `preset.micro_batch_size`, or of `preset.micro_batch_tokens` if it is set.

    Responses of a prompt are neighbours on a GPU (`recipe/mer_r1/training/order.py`): all of them, or as many as every
    GPU can have.
    """
    preset, shared = config.preset, shares_prompts(config)
    gpus = preset.nnodes * preset.ranks_per_node
    sequences = max(1, math.ceil(preset.prompts_per_step * preset.responses_per_prompt / gpus))
    together = math.gcd(sequences, preset.responses_per_prompt) if shared else 1
    limit = preset.micro_batch_tokens
    if limit is None:
        size = preset.micro_batch_size
        micro_batches = [range(start, min(start + size, sequences)) for start in range(0, sequences, size)]
    else:
        continuation = response + branch if shared else max(response, branch)
        parts = [range(start, start + together) for start in range(0, sequences, together)]
        micro_batches = _by_tokens(parts, clip.prompt, continuation, limit)
    return Batch(tuple(_rows(places, together) for places in micro_batches), clip.prompt, response, branch, shared)


def _rows(places: Sequence[int], together: int) -> tuple[int, ...]:
    """Responses in each row of a micro-batch; place i of the GPU's responses belongs to part i // together."""
    parts = [place // together for place in places]
    return tuple(parts.count(part) for part in dict.fromkeys(parts))


def _by_tokens(parts: Sequence[Sequence[int]], prompt: int, continuation: int, limit: int) -> list[list[int]]:
    """As the actor cuts them.

    Raises:
        EstimateError: the limit is not 1 or more.
    """
    sequences = sum(map(len, parts))
    try:
        return split(parts, [prompt] * sequences, [continuation] * sequences, limit)
    except ValueError as error:
        raise EstimateError(f"preset.micro_batch_tokens: {error}") from None
