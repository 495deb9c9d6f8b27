"""The gloo checkpoint engine: one sender, an actor rank that only walks along, two receivers; a thread each."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

pytestmark = pytest.mark.seam
ACTORS, ROLLOUTS = 2, 2


def weights(seed):
    """Different sizes, dtypes and layouts, among them a scalar and a matrix that is not contiguous."""
    drawn = torch.Generator().manual_seed(seed)
    return {
        "thinker.scale": torch.rand((), generator=drawn),
        "thinker.embed": torch.rand(100, 16, generator=drawn),
        "thinker.turned": torch.rand(8, 3, generator=drawn).T,
        "thinker.half": torch.rand(5, generator=drawn).to(torch.bfloat16),
    }


@pytest.fixture(scope="module")
def engines():
    from verl.checkpoint_engine import CheckpointEngineRegistry

    from verl_ext.platform import gloo_weights  # noqa: F401  registers itself

    actors = [CheckpointEngineRegistry.new("gloo", bucket_size=1 << 20, is_master=rank == 0) for rank in range(ACTORS)]
    rollouts = [CheckpointEngineRegistry.new("gloo", bucket_size=1 << 20) for _ in range(ROLLOUTS)]
    return actors, rollouts


def sync(engines, sent):
    """One update as verl's CheckpointEngineManager makes it: what each receiver got, and how far each actor walked."""
    actors, rollouts = engines
    metadata = [engine.prepare() for engine in (*actors, *rollouts)]
    arguments = type(actors[0]).build_topology(ACTORS, ROLLOUTS, metadata)
    calls = [
        (engine, {name: values[index] for name, values in keywords.items()})
        for group, keywords in zip((actors, rollouts), arguments, strict=True)
        for index, engine in enumerate(group)
    ]
    walked = [0] * ACTORS

    def send(rank):
        def walk():
            for name, tensor in sent.items():
                walked[rank] += 1
                yield name, tensor

        asyncio.run(actors[rank].send_weights(walk(), global_steps=1))

    async def receive(engine):
        return {name: tensor async for name, tensor in engine.receive_weights(global_steps=1)}

    with ThreadPoolExecutor(ACTORS + ROLLOUTS) as pool:
        list(pool.map(lambda call: call[0].init_process_group(**call[1]), calls))
        sending = [pool.submit(send, rank) for rank in range(ACTORS)]
        received = list(pool.map(lambda engine: asyncio.run(receive(engine)), rollouts))
        for future in sending:
            future.result()
    for engine in (*actors, *rollouts):
        engine.finalize()
    return received, walked


def test_every_rollout_worker_gets_every_weight_bit_by_bit(engines):
    sent = weights(0)
    received, walked = sync(engines, sent)
    for got in received:
        assert list(got) == list(sent)
        for name, tensor in sent.items():
            assert got[name].dtype == tensor.dtype
            assert torch.equal(got[name], tensor)
    assert walked == [len(sent)] * ACTORS, "making a weight is a collective of all ranks of the actor"


def test_a_second_update_brings_the_new_weights(engines):
    sync(engines, weights(0))
    received, _ = sync(engines, weights(1))
    for got in received:
        assert torch.equal(got["thinker.embed"], weights(1)["thinker.embed"])
