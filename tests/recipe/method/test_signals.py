"""Signals of a batch and recall and precision by category."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recipe.mer_r1.method.signals import category_counts, category_metrics, shuffle_in_groups, stack

names = st.lists(st.sampled_from(["w1/happy", "w1/sad", "w2/happy", "w2/bad"]), unique=True).map(" ".join)


def test_stacking_leaves_what_is_missing_undefined():
    found = stack([{"recall": 1, "f1": 0.5}, None, {"recall": 0.25, "f1": float("nan")}], ["recall", "f1"])
    assert found["recall"].tolist()[::2] == [1.0, 0.25]
    assert math.isnan(found["recall"][1])
    assert math.isnan(found["f1"][2])


def test_recall_and_precision_of_a_category():
    found = category_metrics(["w1/happy", "w1/happy w1/sad", "w1/sad"], ["w1/happy", "w1/sad", "w1/happy w1/sad"])
    assert found == {
        "w1/happy/precision": 0.5,
        "w1/happy/recall": 0.5,
        "w1/sad/precision": 1.0,
        "w1/sad/recall": 1.0,
    }


def test_a_wheel_without_truth_takes_no_part():
    assert category_metrics(["w1/happy"], ["w2/bad"]) == {"w1/happy/recall": 0.0}
    assert category_metrics([""], ["w1/happy"]) == {}


@given(st.lists(st.tuples(names, names), max_size=6))
def test_they_are_shares_and_hits_are_counted_once(pairs):
    truths, predictions = [p[0] for p in pairs], [p[1] for p in pairs]
    found = category_metrics(truths, predictions)
    assert all(0 <= value <= 1 for value in found.values())
    for name in ("w1/happy", "w2/bad"):
        count = sum(name in truth.split() for truth in truths)
        assert (f"{name}/recall" in found) == bool(count)
        if count:
            both = sum(name in t.split() and name in p.split() for t, p in pairs)
            assert found[f"{name}/recall"] == pytest.approx(both / count)


NAN = float("nan")
KEYS = [f"{prompt}_{session}_0" for prompt in "qp" for session in range(4)]


def shuffled(values, keys=KEYS, seed=(1, 2)):
    found = shuffle_in_groups({"x": torch.tensor(values)}, keys, [key[0] for key in keys], seed)
    return found["x"].tolist()


def test_shuffling_moves_defined_values_inside_their_group():
    values = [1.0, 2.0, NAN, 3.0, 10.0, NAN, NAN, 20.0]
    seen = {tuple(shuffled(values, seed=(0, step))[:2]) for step in range(60)}
    assert seen == {(1.0, 2.0), (1.0, 3.0), (2.0, 1.0), (2.0, 3.0), (3.0, 1.0), (3.0, 2.0)}
    for step in range(20):
        found = shuffled(values, seed=(0, step))
        assert [math.isnan(value) for value in found] == [math.isnan(value) for value in values]
        assert sorted(found[:2] + found[3:4]) == [1.0, 2.0, 3.0]
        assert sorted(found[4:5] + found[7:]) == [10.0, 20.0]


def test_a_repeated_step_is_shuffled_the_same_way_in_any_order_of_the_rows():
    values = [1.0, 2.0, NAN, 3.0, 10.0, 30.0, NAN, 20.0]
    once = dict(zip(KEYS, shuffled(values), strict=True))
    assert [once[key] for key in KEYS if key not in ("q_2_0", "p_2_0")] != [1.0, 2.0, 3.0, 10.0, 30.0, 20.0]
    turned = shuffled(values[::-1], KEYS[::-1])
    assert dict(zip(KEYS[::-1], turned, strict=True)) == pytest.approx(once, nan_ok=True)
    assert shuffled(values, seed=(1, 3)) != shuffled(values)
    assert shuffled(values, seed=(2, 2)) != shuffled(values)


def test_signals_are_shuffled_each_alone_and_the_originals_stay():
    signals = {name: torch.arange(4.0) for name in ("calib_pos", "calib_neg")}
    drawn = [shuffle_in_groups(signals, KEYS[:4], ["q"] * 4, (0, step)) for step in range(10)]
    assert any(found["calib_pos"].tolist() != found["calib_neg"].tolist() for found in drawn)
    assert signals["calib_pos"].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_shuffled_signal_does_not_follow_the_original():
    values = [0.0, 1.0, 2.0, 6.0]
    products = [
        sum(a * b for a, b in zip(values, shuffled(values, KEYS[:4], (5, step)), strict=True)) for step in range(3000)
    ]
    assert sum(products) / 3000 == pytest.approx(4 * 2.25**2, rel=0.02)  # of independent values with this mean


def test_categories_of_an_answer_are_counted_on_the_wheels_of_its_labels():
    truths = ["w1/happy w2/happy w2/joyful", "w1/sad", ""]
    predictions = ["w1/happy w1/sad w1/mad w2/happy w3/fear", "w2/sad", "w1/happy"]
    # The first answer has 3 and 1 categories on two wheels, the second none on its wheel; the third has no wheel.
    assert category_counts(truths, predictions) == {
        "categories": 1.0,
        "categories_max": 2.0,
        "categories_labels": (1.5 + 1.0) / 2,
    }
    assert category_counts([""], ["w1/happy"]) == {}
