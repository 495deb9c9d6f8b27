"""Signals of a batch and recall and precision by category."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipe.mer_r1.method.signals import category_metrics, stack

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
