"""Micro-batches of verl's engine counted in tokens of the packed rows, in place of a number of responses.

verl's own keys ask for them: ``use_dynamic_bsz`` with ``max_token_len_per_gpu``. verl counts the tokens of the single
sequences there and takes the responses of a prompt apart. Here the responses of a prompt stay together, and the prompt
counts once (:mod:`verl_ext.actor.split`). It holds for batches with responses and padded rows; verl cuts all others
(SFT, removed padding).

verl's losses are sums over a micro-batch, divided by what the whole batch of all ranks has (``batch_num_tokens``,
``global_batch_size``), so gradients do not depend on how a batch is cut. verl's metrics of the policy loss that are no
losses (``actor/ppo_kl``, ``actor/pg_clipfrac``) are means over micro-batches, each of which counts the same.

Imported as :mod:`verl_ext.actor.engine` is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_id
from verl.workers.engine.utils import postprocess_batch_func

from verl_ext.actor.micro_batch import asks_for_sets, samples_of
from verl_ext.actor.shared_prompt import find_groups
from verl_ext.actor.split import check_limit, split


class TokenLimitMixin:
    """For verl's FSDP engine with a language-model head, before :class:`~verl_ext.actor.engine.SetLogProbsMixin`."""

    def forward_backward_batch(
        self, data: TensorDict, loss_function: Callable | None, forward_only: bool = False
    ) -> dict[str, Any]:
        """As verl's; the outputs are in the order of `data`."""
        if not _counts_tokens(data):
            return super().forward_backward_batch(data, loss_function, forward_only)
        self._set_totals(data)
        parts = self._parts(data)
        outputs = []
        for place, part in enumerate(parts):
            micro_batch, last = tu.index_select_tensor_dict(data, part), place == len(parts) - 1
            with torch.profiler.record_function(f"micro_batch{place}"):  # the name that verl gives it
                outputs.append(self._step(micro_batch, loss_function, forward_only, last))
        return postprocess_batch_func(outputs, parts, data)

    def _set_totals(self, data: TensorDict) -> None:
        """What verl's losses divide by."""
        tokens = data["loss_mask"].sum().to(get_device_id())
        dist.all_reduce(tokens, dist.ReduceOp.SUM, group=self.get_data_parallel_group())
        sizes = {"batch_num_tokens": tokens.item(), "dp_size": self.get_data_parallel_size(), "sp_size": 1}
        tu.assign_non_tensor(data, **sizes)

    def _step(
        self, micro_batch: TensorDict, loss_function: Callable | None, forward_only: bool, last: bool
    ) -> dict[str, Any]:
        """One forward, and where it trains one backward; ranks exchange gradients in the last one of a batch."""
        if forward_only:
            with torch.no_grad():
                return self.forward_step(micro_batch, loss_function=loss_function, forward_only=True)[1]
        with self._gradient_sync_context(is_last_micro_batch=last):
            loss, output = self.forward_step(micro_batch, loss_function=loss_function, forward_only=False)
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        if not tu.get_non_tensor_data(micro_batch, "return_model_output", default=False):
            output.pop("model_output", None)  # else the outputs of all micro-batches would stay in memory
        return output

    def _parts(self, data: TensorDict) -> list[list[int]]:
        """Indices of each micro-batch. If one forward differs from plain ones, parts are for plain forwards: a row for
        every response needs more memory than a row for a group.
        """
        parts = self._split(data)
        if self._can_share_prompts(data) and asks_for_sets(data) not in self._compared:
            most = max(parts, key=len)
            self.prepare_model_inputs(tu.index_select_tensor_dict(data, most).to(get_device_id()))
            if self._differs:
                return self._split(data)
        return parts

    def _split(self, data: TensorDict) -> list[list[int]]:
        """As :func:`split`; the same number on every rank, because every forward gathers weights."""
        limit = tu.get_non_tensor_data(data, "max_token_len_per_gpu", default=None)
        samples = samples_of(data)
        prompts = [sample.prompt_length for sample in samples]
        branches = [0 if sample.branch is None else len(sample.branch) for sample in samples]
        responses = [len(sample.response) for sample in samples]
        if self._can_share_prompts(data):
            groups = find_groups(samples, getattr(self.module, "media_token_ids", ()))
            continuations = [sum(pair) for pair in zip(responses, branches, strict=True)]
        else:  # the branch has a forward of its own
            groups = [[index] for index in range(len(samples))]
            continuations = [max(pair) for pair in zip(responses, branches, strict=True)]
        check_limit(limit)
        fewest = len(split(groups, prompts, continuations, limit))
        count = torch.tensor([fewest, -len(samples)], device=get_device_id())
        dist.all_reduce(count, dist.ReduceOp.MAX, group=self.get_data_parallel_group())
        most, samples_of_a_rank = count[0].item(), -count[1].item()
        if most > samples_of_a_rank:  # on every rank, so that none waits for another
            raise ValueError(
                f"a rank needs {most} micro-batches of at most {limit} tokens, and a rank has {samples_of_a_rank} "
                "responses: verl gives every rank as many"
            )
        return split(groups, prompts, continuations, limit, most)


def _counts_tokens(data: TensorDict) -> bool:
    """The same on every rank."""
    return (
        tu.get_non_tensor_data(data, "use_dynamic_bsz", default=True)
        and "max_token_len_per_gpu" in data
        and "responses" in data
        and not tu.get_non_tensor_data(data, "use_remove_padding", default=True)
        and tu.get_non_tensor_data(data, "force_group_size", default=1) == 1
    )
