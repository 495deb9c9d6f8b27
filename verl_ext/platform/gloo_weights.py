"""Checkpoint engine "gloo": the actor's weights to rollout workers of their own, on machines without NCCL.

verl's engines for separate pools (nccl, nixl, mooncake, …) all need an accelerator's libraries. This one broadcasts
each tensor over gloo, from the actor's rank 0 to every rollout worker, and is found through verl's registry::

    actor_rollout_ref.rollout.checkpoint_engine.backend=gloo
    actor_rollout_ref.rollout.checkpoint_engine.custom_backend_module=verl_ext.platform.gloo_weights

Names, shapes and dtypes travel through the group's TCP store. A group lives for one update, so nothing has to be
fixed when a worker was replaced in between.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from typing import Any

import ray
import torch
import torch.distributed as dist
from verl.checkpoint_engine.base import CheckpointEngine, CheckpointEngineRegistry
from verl.workers.rollout.utils import ensure_async_iterator

TIMEOUT = timedelta(minutes=10)
END = b"end"
"""Stands in the store after the last tensor."""

Address = tuple[str, int]


@CheckpointEngineRegistry.register("gloo")
class GlooCheckpointEngine(CheckpointEngine):
    """One a worker; verl calls the methods in the order in which they stand here.

    Args:
        bucket_size: verl's size of a message, in bytes; not needed, since tensors go one by one.
        is_master: whether this is the actor's rank 0, which sends.
    """

    def __init__(self, bucket_size: int, is_master: bool = False) -> None:
        self.is_master = is_master
        self._store: dist.Store | None = None
        self._group: dist.ProcessGroupGloo | None = None

    def prepare(self) -> Address | None:
        """Open the store; returns where it is, None from all but the sender."""
        if not self.is_master:
            return None
        host = ray.util.get_node_ip_address().strip("[]")
        # Port 0: one that is free.
        self._store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=TIMEOUT)
        return host, self._store.port

    @classmethod
    def build_topology(
        cls, actor_wg_world_size: int, rollout_world_size: int, metadata: list[Address | None]
    ) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        """Rank 0 is the sender, the rollout's workers follow; the actor's other ranks have none.

        Args:
            actor_wg_world_size: workers of the actor.
            rollout_world_size: workers of all rollout replicas.
            metadata: what each of them returned from :meth:`prepare`, the actor's first.

        Returns:
            The arguments of :meth:`init_process_group` for the actor's and for the rollout's workers.
        """
        size = 1 + rollout_world_size
        actor_ranks: list[int | None] = [0] + [None] * (actor_wg_world_size - 1)

        def arguments(ranks: list[int | None]) -> dict[str, list[Any]]:
            return {"rank": ranks, "size": [size] * len(ranks), "address": [metadata[0]] * len(ranks)}

        return arguments(actor_ranks), arguments(list(range(1, size)))

    def init_process_group(self, rank: int | None, size: int, address: Address) -> None:
        """Join; returns once all have."""
        if rank is None:
            return
        if self._store is None:
            self._store = dist.TCPStore(*address, is_master=False, timeout=TIMEOUT)
        self._group = dist.ProcessGroupGloo(dist.PrefixStore("gloo", self._store), rank, size, TIMEOUT)

    @torch.no_grad()
    async def send_weights(self, weights: Iterable[tuple[str, torch.Tensor]], global_steps: int | None = None) -> None:
        """Broadcast the weights.

        Args:
            weights: (name, tensor) pairs. Every rank of the actor must walk through them: making each is a collective.
            global_steps: the weights' version; verl hands it on itself.
        """
        count = 0
        async for name, weight in ensure_async_iterator(weights):
            if self._group is None:
                continue
            tensor = weight.detach().to("cpu").contiguous()
            head = {"name": name, "shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
            self._store.set(f"tensor/{count}", json.dumps(head))
            self._group.broadcast(_bytes(tensor), 0).wait()
            count += 1
        if self._group is not None:
            self._store.set(f"tensor/{count}", END)

    async def receive_weights(self, global_steps: int | None = None) -> AsyncIterator[tuple[str, torch.Tensor]]:
        """Yield (name, tensor) as they come.

        Args:
            global_steps: the weights' version; not used.
        """
        count = 0
        while (found := self._store.get(f"tensor/{count}")) != END:
            head = json.loads(found)
            tensor = torch.empty(head["shape"], dtype=getattr(torch, head["dtype"]))
            self._group.broadcast(_bytes(tensor), 0).wait()
            count += 1
            yield head["name"], tensor

    def finalize(self) -> None:
        """Leave the group."""
        self._group = self._store = None


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory as bytes: gloo does not know every dtype."""
    return tensor.view(-1).view(torch.uint8)
