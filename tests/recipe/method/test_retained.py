"""Retained hit rate: the fast answers' true categories that slow answers keep."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from result_cases import BUILTIN

from recipe.mer_r1.method.retained import retained_hit_rate

WORDS = ["happy", "sad", "angry", "surprised", "worried", "xyzzy"]
ANSWERS = st.lists(st.lists(st.sampled_from(WORDS), max_size=3), min_size=3, max_size=3)


def named(rows):
    return {f"clip_{index}": list(row) for index, row in enumerate(rows)}


def test_hits_are_pooled_over_clips(builtin):
    # Two hits of fast in the first clip, of which one is kept; one in the second, kept. Sad is no hit.
    gold = named([["happy", "angry"], ["happy"], ["happy"]])
    fast = named([["happy", "angry"], ["happy", "sad"], ["sad"]])
    slow = named([["happy"], ["happy"], ["happy"]])
    found = retained_hit_rate(gold, slow, fast, builtin)
    assert found["retained_hit"] == pytest.approx(2 / 3)
    assert found["per_wheel"].keys() == set(builtin.ids)
    assert found["n_hits"] == 3 * len(builtin.ids)
    assert "ci95" not in found


def test_what_slow_adds_counts_for_nothing(builtin):
    gold = named([["happy", "sad"]])
    found = retained_hit_rate(gold, named([["happy", "sad", "angry"]]), named([["sad"]]), builtin)
    assert found["retained_hit"] == 1.0


def test_without_a_hit_it_is_undefined(builtin):
    rows = named([["happy"]])
    found = retained_hit_rate(rows, rows, named([["sad"]]), builtin, bootstrap=5)
    assert math.isnan(found["retained_hit"])
    assert all(map(math.isnan, found["ci95"]["retained_hit"]))


def test_a_wheel_without_a_hit_takes_no_part(builtin):
    """A word that only some wheels know, and is kept on all that do."""
    partial = next(
        word
        for word in builtin.vocabulary
        if 0 < sum(builtin.category(word, wheel) is not None for wheel in builtin.ids) < len(builtin.ids)
    )
    found = retained_hit_rate(*[named([[partial]])] * 3, builtin)
    assert found["retained_hit"] == 1.0
    assert any(map(math.isnan, found["per_wheel"].values()))


@given(ANSWERS, ANSWERS, ANSWERS)
def test_it_is_the_quotient_of_counted_categories(gold, slow, fast):
    shares = []
    for wheel in BUILTIN.ids:
        truth, slows, fasts = ([BUILTIN.categories(row, wheel) for row in rows] for rows in (gold, slow, fast))
        hits = [one & other for one, other in zip(truth, fasts, strict=True)]
        if total := sum(map(len, hits)):
            shares.append(sum(len(hit & kept) for hit, kept in zip(hits, slows, strict=True)) / total)
    found = retained_hit_rate(named(gold), named(slow), named(fast), BUILTIN, bootstrap=20)
    expected = sum(shares) / len(shares) if shares else math.nan
    assert found["retained_hit"] == pytest.approx(expected, nan_ok=True)
    low, high = found["ci95"]["retained_hit"]
    assert math.isnan(low) or 0 <= low <= high <= 1


def test_a_draw_without_a_hit_is_left_out(builtin):
    """Of two clips one has a hit, which slow keeps. A quarter of the draws has no hit: undefined, and not 0."""
    gold, fast = named([["happy"], ["happy"]]), named([["happy"], ["sad"]])
    found = retained_hit_rate(gold, gold, fast, builtin, bootstrap=50)
    assert found["ci95"]["retained_hit"] == [1.0, 1.0]


def test_the_interval_follows_the_seed(builtin):
    gold = named([["happy"]] * 9)
    slow = named([["happy"] if index % 2 else ["sad"] for index in range(9)])
    seeds = ({}, {"seed": 0}, {"seed": 1})
    draw = [retained_hit_rate(gold, slow, gold, builtin, bootstrap=7, **seed) for seed in seeds]
    assert draw[0] == draw[1]
    assert draw[1]["ci95"] != draw[2]["ci95"]


def test_other_clips_are_refused(builtin):
    rows = named([["happy"]])
    with pytest.raises(ValueError, match="without a prediction"):
        retained_hit_rate(rows, rows, {}, builtin)
