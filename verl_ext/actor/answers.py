"""Greedy continuations of prompts by the model that an engine trains, without any effect on the training.

A forward of FSDP gathers the weights of each layer and drops them. Here each layer's weights are gathered once and
dropped at the end, because a continuation needs a forward for each token. So a device needs memory for all weights in
the dtype of the forward (bf16: 2 bytes per parameter).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule

from verl_ext.models.greedy import Greedy, Prompt


class AnswersMixin:
    """For verl's FSDP engine; needs FSDP2."""

    @torch.no_grad()
    def answers(
        self, prompts: Iterable[Prompt], max_tokens: int, ends: list[int], banned: list[int], tokens_at_once: int
    ) -> list[list[int]]:
        """The greedy continuations of this rank's prompts, in their order. Every rank must call it.

        Weights, optimizer, random numbers and modes of the modules are as before when it returns.

        Args:
            prompts: of this rank, also none; taken one by one, so that not all media are in memory.
            max_tokens: of a continuation.
            ends: ids that end a continuation, which has them as its last id.
            banned: ids that are never chosen.
            tokens_at_once: of a batch, with padding and continuations; a longer prompt is a batch by itself.
        """
        training = {module: module.training for module in self.module.modules()}
        try:
            with self.eval_mode():
                device = next(self.module.parameters()).device  # here: offloaded weights are loaded
                generators = [] if device.type == "cpu" else [device]
                with torch.random.fork_rng(generators, device_type=device.type), self._gathered():
                    return self._answers(prompts, max_tokens, ends, banned, tokens_at_once)
        finally:
            for module, mode in training.items():
                module.training = mode

    def _answers(
        self, prompts: Iterable[Prompt], max_tokens: int, ends: list[int], banned: list[int], tokens_at_once: int
    ) -> list[list[int]]:
        device = next(self.module.parameters()).device
        greedy, found = Greedy(self.module, max_tokens, ends, banned), []
        own = batches(prompts, max_tokens, tokens_at_once)
        ranks = dist.get_world_size() if dist.is_initialized() else 1
        while _of_any_rank((batch := next(own, None)) is not None, device):
            # A rank whose prompts are all answered makes the forwards of the others with a prompt of one token.
            with self._autocast(device.type):
                answers = greedy.continued(batch or [Prompt([ends[0]])], synced=ranks > 1)
            found += answers if batch else []
        return found

    @contextmanager
    def _gathered(self) -> Iterator[None]:
        """While inside, a forward keeps the weights that it has gathered; they are dropped at the end."""
        self.module.set_reshard_after_forward(False)
        try:
            yield
        finally:
            self.module.set_reshard_after_forward(bool(self.engine_config.reshard_after_forward))
            for module in self.module.modules():
                if isinstance(module, FSDPModule):
                    module.reshard()
            self._drops_gathered = None  # of OneRankMixin: its next forward sets it anew


def batches(prompts: Iterable[Prompt], max_tokens: int, tokens_at_once: int) -> Iterator[list[Prompt]]:
    """Prompts in their order, as many in a batch as the limit allows, one at least."""
    batch: list[Prompt] = []
    for prompt in prompts:
        longest = max(len(each.ids) for each in [*batch, prompt]) + max_tokens
        if batch and (longest * (len(batch) + 1) > tokens_at_once or prompt.audio_in_video != batch[0].audio_in_video):
            yield batch
            batch = []
        batch.append(prompt)
    if batch:
        yield batch


def _of_any_rank(found: bool, device: torch.device) -> bool:
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return found
    flag = torch.tensor(int(found), device=device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag.item())
