"""What a GPU's micro-batches hold: rows, tokens, operations; with a prompt once for its responses, or once for each."""

from __future__ import annotations

import math
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf

from recipe.mer_r1.estimate.workload import Clip, Model
from recipe.mer_r1.method.experiments import Estimator
from verl_ext.models.flops import shared_prompt_forward, text_forward


def reads_confidence(config: DictConfig) -> bool:
    """Whether the log-prob pass reads the fast branch too (Eq. 8)."""
    estimator = Estimator.from_config(config.mer_r1.terms, config.mer_r1.whiten)
    return config.mer_r1.confidence.always or estimator.needs_confidence


def shares_prompts(config: DictConfig) -> bool:
    """Whether all responses of a prompt in a micro-batch are one row (`mer_r1.shared_prompt`); needs sdpa."""
    return bool(config.mer_r1.shared_prompt) and config.preset.attention == "sdpa"


def skips_old_log_probs(config: DictConfig) -> bool:
    """Whether the old log-probs are the update's own, so that there is no pass for them.

    True where `mer_r1.old_log_probs` is not `pass`, the rollout is of the policy that is updated, a batch makes one
    update, and no confidence is read in that pass.
    """
    actor = config.actor_rollout_ref.actor
    return (
        OmegaConf.select(config, "mer_r1.old_log_probs", default="pass") != "pass"
        and config.trainer.v1.trainer_mode == "mer_r1_sync"
        and actor.ppo_epochs == 1
        and actor.ppo_mini_batch_size >= config.data.train_batch_size
        and not reads_confidence(config)
    )


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
    limit = OmegaConf.select(config, "preset.micro_batch_tokens", default=None)
    if limit is None:
        rows = _by_count(sequences, together, preset.micro_batch_size)
    else:
        continuation = response + branch if shared else max(response, branch)
        rows = _by_tokens(sequences, together, limit, clip.prompt, continuation)
    return Batch(rows, clip.prompt, response, branch, shared)


def _by_count(sequences: int, together: int, size: int) -> tuple[tuple[int, ...], ...]:
    """Micro-batches of `size` responses; each place i of the GPU's responses belongs to part i // together."""
    found = []
    for start in range(0, sequences, size):
        places = range(start, min(start + size, sequences))
        parts = [place // together for place in places]
        found.append(tuple(parts.count(part) for part in dict.fromkeys(parts)))
    return tuple(found)


def _by_tokens(
    sequences: int, together: int, limit: int, prompt: int, continuation: int
) -> tuple[tuple[int, ...], ...]:
    """Micro-batches of at most `limit` tokens, of complete parts; a part over the limit is cut into rows that fit."""
    most = min(together, max(1, (limit - prompt) // continuation))
    of_part = [min(most, together - start) for start in range(0, together, most)]
    rows = sorted(of_part * (sequences // together), reverse=True)
    found = []
    while rows:
        fitting = max(1, limit // (prompt + rows[0] * continuation))
        found.append(tuple(rows[:fitting]))
        rows = rows[fitting:]
    return tuple(found)
