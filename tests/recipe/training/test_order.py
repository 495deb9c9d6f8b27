"""Batches in the order of the data, whatever order responses arrive in."""

from __future__ import annotations

import random

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

        def _fetch_one_gen_batch(self):
            return tu.get_tensordict(
                {"dummy": torch.zeros(2), "uid": np.array([f"{random.random()}", "b"], dtype=object)}
            )

        def _balance_batch(self, batch, metrics, **_):
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
