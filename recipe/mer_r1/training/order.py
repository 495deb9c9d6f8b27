"""Batches in the order of the data, so that a run that is repeated or resumed adds the same numbers in the same order.

verl 0.9.1 names prompts by random uids and takes responses as they arrive: sums over a batch then differ in their last
bits from run to run, and no response of one run can be found in another.
"""

from __future__ import annotations

from typing import Any

from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.utils import tensordict_utils as tu


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

    def _balance_batch(self, batch: KVBatchMeta, *args: Any, **kwargs: Any) -> KVBatchMeta:
        batch.reorder(sorted(range(len(batch.keys)), key=batch.keys.__getitem__))
        return super()._balance_batch(batch, *args, **kwargs)

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
