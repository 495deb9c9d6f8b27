"""What FSDP moves between GPUs, and how long it takes.

The formulas are those of NVIDIA's nccl-tests (doc/PERFORMANCE.md) for S bytes over n GPUs with links of B bytes per
second: S · (n − 1) / (n · B) for an all-gather or a reduce-scatter, twice as much for an all-reduce.

B of GPUs on several nodes: NCCL's rings pass through all GPUs of a node before they leave it, each through another
network card, so the cards of a node add up, up to the speed of NVLink. Measured on two nodes of 8 A100 (NVIDIA/nccl on
GitHub): 86 GB/s of 4 cards of 25 GB/s, and 24 GB/s of one of them (issue 1048); 75 GB/s of 8 cards of 12.5 GB/s
(issue 495).
"""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig

from recipe.mer_r1.estimate.workload import EstimateError


@dataclass(frozen=True)
class Traffic:
    """What one GPU receives (GB), and the seconds that it takes."""

    gb: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.gb + other.gb, self.seconds + other.seconds)

    def __mul__(self, times: float) -> Traffic:
        return Traffic(self.gb * times, self.seconds * times)


@dataclass(frozen=True)
class Mesh:
    """How FSDP lays a model over GPUs.

    verl's `create_device_mesh`: ranks in order, as replicas × shards. The ranks of a node are neighbours.

    Attributes:
        shards: GPUs that hold the model together.
        replicas: how often it is held.
        on_node: GPUs of a node.
        node_speed, card_speed: GB/s that are reached by a GPU's NVLink, by one network card.
        cards: network cards of a node.
    """

    shards: int
    replicas: int
    on_node: int
    node_speed: float
    card_speed: float
    cards: int

    @classmethod
    def of(cls, preset: DictConfig, assumed: DictConfig, fsdp_size: int) -> Mesh:
        """The mesh of an engine with verl's `fsdp_size`: as large as all GPUs, or less than 0, for all.

        Raises:
            EstimateError: the GPUs cannot be divided so.
        """
        gpus = preset.nnodes * preset.ranks_per_node
        shards = fsdp_size if 0 <= fsdp_size < gpus else gpus
        if shards == 0 or gpus % shards:
            raise EstimateError(f"fsdp_size={fsdp_size} does not divide the {gpus} GPUs")
        gpu, reached = assumed.gpu, assumed.reached.links
        return cls(
            shards,
            gpus // shards,
            preset.ranks_per_node,
            gpu.node_gb_s * reached,
            gpu.network_gb_s * reached,
            gpu.network_cards,
        )

    def gather(self, size: float) -> Traffic:
        """All-gather of `size` bytes to every GPU, from the shards."""
        return self._ring(size, self.shards, self._speed_of_shards())

    def reduce(self, size: float) -> Traffic:
        """Sum of `size` bytes of every GPU, sharded: a reduce-scatter among shards, an all-reduce among replicas.

        As torch's FSDP2 (`foreach_reduce`): a GPU all-reduces the shard that it has after the reduce-scatter.
        """
        among_replicas = self._ring(2 * size / self.shards, self.replicas, self._speed_of_replicas())
        return self._ring(size, self.shards, self._speed_of_shards()) + among_replicas

    def _ring(self, size: float, members: int, speed: float) -> Traffic:
        gb = size * (members - 1) / members / 1e9
        return Traffic(gb, gb / speed)

    def _speed_of_shards(self) -> float:
        if self.shards <= self.on_node:
            return self.node_speed
        return min(self.node_speed, self.card_speed * self.cards)

    def _speed_of_replicas(self) -> float:
        """Every GPU of a replica has a ring of its own with its counterparts; those of a node share the cards."""
        if self.shards * self.replicas <= self.on_node:
            return self.node_speed
        return min(self.node_speed, self.card_speed * self.cards / min(self.shards, self.on_node))
