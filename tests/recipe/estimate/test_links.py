"""What FSDP moves, by hand: S · (n − 1) / n for a gather or a scatter, twice as much for an all-reduce."""

import pytest
from omegaconf import OmegaConf

from recipe.mer_r1.estimate.links import Mesh, Traffic
from recipe.mer_r1.estimate.workload import EstimateError

GB = 1e9


def mesh(nodes=2, on_node=8, fsdp_size=-1, cards=8):
    """NVLink of 400 GB/s and cards of 20 GB/s, of which half is reached."""
    preset = OmegaConf.create({"nnodes": nodes, "ranks_per_node": on_node})
    assumed = OmegaConf.create(
        {"gpu": {"node_gb_s": 400, "network_gb_s": 20, "network_cards": cards}, "reached": {"links": 0.5}}
    )
    return Mesh.of(preset, assumed, fsdp_size)


def approx(gb, seconds):
    return pytest.approx((gb, seconds))


def pair(traffic: Traffic):
    return traffic.gb, traffic.seconds


def test_one_node():
    one = mesh(nodes=1)
    assert (one.shards, one.replicas) == (8, 1)
    assert pair(one.gather(16 * GB)) == approx(14, 14 / 200)
    assert pair(one.reduce(16 * GB)) == approx(14, 14 / 200)
    assert pair(mesh(nodes=1, on_node=1).reduce(16 * GB)) == (0, 0)


@pytest.mark.parametrize(("cards", "speed"), [(8, 80), (1, 10), (40, 200)])
def test_over_two_nodes_the_cards_of_a_node_add_up_to_nvlinks_speed(cards, speed):
    assert pair(mesh(cards=cards).gather(16 * GB)) == approx(15, 15 / speed)
    assert pair(mesh(cards=cards).reduce(16 * GB)) == approx(15, 15 / speed)


@pytest.mark.parametrize(("cards", "speed"), [(8, 10), (1, 10 / 8), (4, 5)])
def test_hybrid_shards_stay_in_the_node_and_replicas_share_its_cards(cards, speed):
    hybrid = mesh(fsdp_size=8, cards=cards)
    assert (hybrid.shards, hybrid.replicas) == (8, 2)
    assert pair(hybrid.gather(16 * GB)) == approx(14, 14 / 200)
    # 2 GB of a GPU's own shard, twice half of it.
    assert pair(hybrid.reduce(16 * GB)) == approx(14 + 2, 14 / 200 + 2 / speed)


def test_four_shards_on_nodes_of_eight():
    """Four replicas, two in each node; the four rings between them share eight cards."""
    four = mesh(fsdp_size=4)
    assert (four.shards, four.replicas) == (4, 4)
    assert pair(four.reduce(16 * GB)) == approx(12 + 2 * 3 / 4 * 4, 12 / 200 + 6 / 20)


def test_replicas_within_a_node_need_no_network():
    inside = mesh(nodes=1, fsdp_size=4)
    assert pair(inside.reduce(16 * GB)) == approx(12 + 4, 12 / 200 + 4 / 200)


def test_sixteen_shards_of_32_gpus():
    wide = mesh(nodes=4, fsdp_size=16)
    assert pair(wide.gather(16 * GB)) == approx(15, 15 / 80)
    # Eight rings between the two replicas on every node.
    assert pair(wide.reduce(16 * GB)) == approx(15 + 1, 15 / 80 + 1 / 10)


@pytest.mark.parametrize("fsdp_size", [-1, 16, 17, 64])
def test_all_gpus_as_verl_reads_it(fsdp_size):
    assert mesh(fsdp_size=fsdp_size).shards == 16


@pytest.mark.parametrize("fsdp_size", [0, 3, 7])
def test_a_size_that_does_not_divide_is_refused(fsdp_size):
    with pytest.raises(EstimateError, match=f"fsdp_size={fsdp_size} does not divide the 16 GPUs"):
        mesh(fsdp_size=fsdp_size)
