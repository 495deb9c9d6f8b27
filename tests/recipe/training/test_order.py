"""Batches in the order of the data, whatever order responses arrive in."""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pytest

pytestmark = pytest.mark.seam


@pytest.fixture
def trainer():
    """The mixin over a base that hands over what it is given."""
    import torch
    from verl.utils import tensordict_utils as tu

    from recipe.mer_r1.training.order import OrderMixin

    class Base:
        global_steps = 7
        actor_rollout_wg = SimpleNamespace(_dispatch_info={"actor": [0]})

        def _fetch_one_gen_batch(self):
            return tu.get_tensordict(
                {"dummy": torch.zeros(2), "uid": np.array([f"{random.random()}", "b"], dtype=object)}
            )

        def _balance_batch(self, batch, metrics, **_):
            if max(self.actor_rollout_wg._dispatch_info["actor"]):
                batch.reorder(batch_shuffled(len(batch)))  # verl shares single responses out
            return batch

        def _val_metrics_update(self, sources, uids, infos, turns, **kwargs):
            return {"sources": sources, "uids": uids, "infos": infos, "turns": turns, **kwargs}

    return type("Trainer", (OrderMixin, Base), {})()


def test_a_uid_is_the_step_and_the_place_in_it(trainer) -> None:
    uids = [list(trainer._fetch_one_gen_batch()["uid"]) for _ in range(2)]
    trainer.global_steps = 8
    uids.append(list(trainer._fetch_one_gen_batch()["uid"]))
    assert uids == [
        ["000007-00000", "000007-00001"],
        ["000007-00002", "000007-00003"],
        ["000008-00000", "000008-00001"],
    ]


def test_responses_are_taken_in_the_order_of_their_keys(trainer) -> None:
    from transfer_queue import KVBatchMeta

    keys = [f"000007-{prompt:05d}_{session}_0" for prompt in range(3) for session in range(4)]
    arrived = random.Random(0).sample(keys, len(keys))
    batch = KVBatchMeta(keys=arrived, tags=[{"of": key} for key in arrived], partition_id="train")
    batch = trainer._balance_batch(batch, {})
    assert batch.keys == keys
    assert [tag["of"] for tag in batch.tags] == keys


def batch_shuffled(size):
    return random.Random(1).sample(range(size), size)


def groups_of(keys):
    """By mini-batch or rank: the uids, each with its number of responses."""
    uids = [key.split("_")[0] for key in keys]
    return {uid: uids.count(uid) for uid in uids}


@pytest.mark.parametrize("mini_batches", [1, 2])
@pytest.mark.parametrize("ranks", [2, 3])
def test_the_responses_of_a_prompt_stay_on_one_rank_and_in_one_mini_batch(ranks, mini_batches, trainer) -> None:
    from transfer_queue import KVBatchMeta

    prompts = 6 * mini_batches
    trainer.actor_rollout_wg = SimpleNamespace(_dispatch_info={"actor": list(range(ranks))})
    trainer.config = SimpleNamespace(
        actor_rollout_ref=SimpleNamespace(actor=SimpleNamespace(ppo_mini_batch_size=6), rollout=SimpleNamespace(n=4))
    )
    keys = [f"000007-{prompt:05d}_{session}_0" for prompt in range(prompts) for session in range(4)]
    long = {0, 1}  # one rank must not get both
    tags = [{"seq_len": 900 if int(key[7:12]) in long else 100, "of": key} for key in keys]
    batch, metrics = KVBatchMeta(keys=list(keys), tags=tags, partition_id="train"), {}
    batch = trainer._balance_batch(batch, metrics)
    assert sorted(batch.keys) == keys
    assert [tag["of"] for tag in batch.tags] == batch.keys
    share = len(keys) // ranks
    of_rank = [batch.keys[rank * share : (rank + 1) * share] for rank in range(ranks)]
    tokens = [sum(tag["seq_len"] for tag in batch.tags[rank * share : (rank + 1) * share]) for rank in range(ranks)]
    assert (metrics["global_seqlen/balanced_min"], metrics["global_seqlen/balanced_max"]) == (min(tokens), max(tokens))
    for mini_batch in range(mini_batches):
        size = share // mini_batches
        parts = [responses[mini_batch * size : (mini_batch + 1) * size] for responses in of_rank]
        assert all(set(groups_of(part).values()) == {4} for part in parts)
        uids = sorted(uid for part in parts for uid in groups_of(part))
        assert uids == sorted({key.split("_")[0] for key in keys})[mini_batch * 6 : (mini_batch + 1) * 6]
    assert max(sum(int(uid[7:]) in long for uid in groups_of(part)) for part in of_rank) == 1


def test_where_groups_do_not_divide_verls_order_stays() -> None:
    from recipe.mer_r1.training.order import whole_groups

    pairs = [f"{uid}_{session}_0" for uid in "abcd" for session in range(2)]
    assert whole_groups(pairs, [10] * 8, ranks=2) is not None
    assert whole_groups(pairs, [10] * 8, ranks=2, mini_batch=4) is not None
    assert whole_groups(pairs, [10] * 8, ranks=4, mini_batch=4) is None, "half a group of two is one response"
    assert whole_groups(pairs, [10] * 8, ranks=3) is None
    assert whole_groups([*pairs[:7], "pad_0_0"], [10] * 8, ranks=2) is None, "groups of unequal size"
    assert whole_groups(pairs, [10] * 8, ranks=2, mini_batch=3) is None


@pytest.mark.parametrize(
    ("size", "prompts", "ranks", "mini_batch", "together"),
    [(4, 8, 16, None, 2), (4, 16, 16, 32, 2), (8, 4, 8, None, 4), (6, 4, 6, None, 2), (4, 6, 4, None, 2)],
)
def test_a_rank_that_has_room_for_part_of_a_group_gets_a_part(size, prompts, ranks, mini_batch, together) -> None:
    """The paper's 16 GPUs have two of a prompt's four responses each."""
    from recipe.mer_r1.training.order import whole_groups

    keys = [f"{prompt:05d}_{session}_0" for prompt in range(prompts) for session in range(size)]
    arrived = random.Random(0).sample(keys, len(keys))
    found = whole_groups(arrived, [10 + int(key[4]) for key in arrived], ranks, mini_batch)
    assert sorted(arrived[index] for of_rank in found for index in of_rank) == keys
    for of_rank in found:
        assert len(of_rank) == len(keys) // ranks
        mine = [arrived[index] for index in of_rank]
        for start in range(0, len(mine), together):
            places = [keys.index(key) for key in mine[start : start + together]]
            assert places == list(range(places[0], places[0] + together)), "neighbours, in order"
            assert places[0] % together == 0, "of one group"


def test_the_sums_of_a_validation_do_not_depend_on_which_answer_came_first(trainer) -> None:
    draw = random.Random(0)
    rows = [
        ("x" if n % 2 else "y", f"uid{n}", {"reward": draw.random(), "truth": ["sad", str(n)]}, n) for n in range(9)
    ]
    found = []
    for _ in range(3):
        draw.shuffle(rows)
        infos = {name: [row[2][name] for row in rows] for name in ("reward", "truth")}
        columns = ([row[place] for row in rows] for place in (0, 1))
        found.append(trainer._val_metrics_update(*columns, infos, [row[3] for row in rows], expected_acc_counts={}))
    assert found[0] == found[1] == found[2]
    first = dict(zip(found[0]["uids"], found[0]["infos"]["reward"], strict=True))
    assert first == {row[1]: row[2]["reward"] for row in rows}
    assert found[0]["expected_acc_counts"] == {}
