"""Batches in the order of the data, so that a run that is repeated or resumed adds the same numbers in the same order.

verl 0.9.1 names prompts by random uids and takes responses as they arrive: sums over a batch then differ in their last
bits from run to run, and no response of one run can be found in another. It also shares single responses out to the
ranks. The responses of a prompt stay together here, because one forward for all of them reads the prompt once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.utils import tensordict_utils as tu
from verl.utils.seqlen_balancing import get_group_balanced_partitions, log_seqlen_unbalance


class OrderMixin:
    """For any of verl's V1 trainers. A prompt's uid is its step and its place among the prompts drawn in it."""

    _drawn: tuple[int, int] = (-1, 0)
    """The step in hand, and how many prompts it has drawn."""

    def _fetch_one_gen_batch(self) -> TensorDict:
        batch = super()._fetch_one_gen_batch()
        step, first = self._drawn
        if step != self.global_steps:
            step, first = self.global_steps, 0
        self._drawn = (step, first + len(batch))
        # No underscore: verl cuts a response's key, uid_session_turn, at the first one.
        tu.assign_non_tensor_stack(batch, "uid", [f"{step:06d}-{first + place:05d}" for place in range(len(batch))])
        return batch

    def _balance_batch(
        self, batch: KVBatchMeta, metrics: dict[str, Any], logging_prefix: str = "global_seqlen", **kwargs: Any
    ) -> KVBatchMeta:
        # Responses of a prompt are neighbours, prompts are in the order of the data.
        batch.reorder(sorted(range(len(batch.keys)), key=batch.keys.__getitem__))
        batch = super()._balance_batch(batch, metrics, logging_prefix=logging_prefix, **kwargs)
        ranks = max(self.actor_rollout_wg._dispatch_info["actor"]) + 1
        if ranks == 1:
            return batch  # verl leaves it as it is
        actor = self.config.actor_rollout_ref.actor
        mini_batch = actor.ppo_mini_batch_size * self.config.actor_rollout_ref.rollout.n
        order = whole_groups(batch.keys, [tag["seq_len"] for tag in batch.tags], ranks, mini_batch)
        if order is not None:
            batch.reorder([index for of_rank in order for index in of_rank])
            lengths = [tag["seq_len"] for tag in batch.tags]
            share = len(lengths) // ranks
            parts = [list(range(rank * share, (rank + 1) * share)) for rank in range(ranks)]
            metrics.update(log_seqlen_unbalance(lengths, parts, prefix=logging_prefix))
        return batch

    def _val_metrics_update(
        self, sources: list[str], uids: list[str], infos: dict[str, list[Any]], turns: list[int], **kwargs: Any
    ) -> dict[str, Any]:
        # Validation's uids are random, and its answers come as they are done: sort them by what they hold. Those that
        # hold the same may change places.
        rows = [repr(row) for row in zip(sources, *infos.values(), strict=True)]
        order = sorted(range(len(rows)), key=rows.__getitem__)
        infos = {name: [values[place] for place in order] for name, values in infos.items()}
        sources, uids, turns = ([values[place] for place in order] for values in (sources, uids, turns))
        return super()._val_metrics_update(sources, uids, infos, turns, **kwargs)


def whole_groups(
    keys: Sequence[str], lengths: Sequence[int], ranks: int, mini_batch: int | None = None
) -> list[list[int]] | None:
    """Share responses out to ranks so that those of a prompt stay together; mini-batches are in the order of the keys.

    Where a rank has fewer responses of a mini-batch than a prompt has, or no multiple of them, the responses of a
    prompt make parts of equal size, as large as every rank can have, and each part stays together.

    Args:
        keys: of responses, ``uid_session_turn``, in any order.
        lengths: tokens of prompt and response.
        ranks: each gets as many responses as the others, of about as many tokens.
        mini_batch: responses of all ranks that make one update.

    Returns:
        Indices by rank; None where groups, ranks and mini-batches do not divide, or parts would be single responses.
    """
    order = sorted(range(len(keys)), key=keys.__getitem__)
    uids = [keys[index].split("_")[0] for index in order]
    sizes = {len(list(group)) for _, group in groupby(uids)}
    size, mini_batch = max(sizes), min(mini_batch or len(keys), len(keys))
    if len(sizes) > 1 or len(keys) % mini_batch or mini_batch % ranks:
        return None
    together = math.gcd(size, mini_batch // ranks)
    if together < min(size, 2):
        return None
    part_of = [f"{uid} {place % size // together}" for place, uid in enumerate(uids)]
    found: list[list[int]] = [[] for _ in range(ranks)]
    for start in range(0, len(order), mini_batch):
        part = order[start : start + mini_batch]
        of_ranks = get_group_balanced_partitions(
            [lengths[index] for index in part], part_of[start : start + mini_batch], ranks
        )
        for rank, chosen in enumerate(of_ranks):
            found[rank] += [part[place] for place in chosen]
    return found
