"""The bootstrap by value, its coverage under noise, and how many seeds would decide."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipe.mer_r1.ablation.statistics import (
    Interval,
    clips_that_decide,
    interval,
    seeds_that_decide,
    t_quantile,
)

numbers = st.floats(-1, 1, width=32)


def found(values, **options):
    return interval(values, **{"draws": 4000, **options})


def test_clips_alone_with_one_seed():
    """400 clips, half 0 and half 1: mean 0.5, standard error 0.5 / √400 = 0.025."""
    one = found([[0.0, 1.0] * 200])
    assert (one.value, one.seeds, one.clips, one.seed_sd) == (0.5, 1, 400, None)
    assert one.clip_se == pytest.approx(0.025, rel=2e-3)
    assert (one.low, one.high) == pytest.approx((0.5 - 1.96 * 0.025, 0.5 + 1.96 * 0.025), abs=2e-3)
    assert one.sign == 0  # one seed decides nothing


def test_seeds_alone_where_all_clips_agree():
    """Seed means −0.01, 0, 0.01 about 0.05: Student's interval, t(2) · 0.01 / √3 = 0.0248 to either side."""
    three = found([[0.04] * 50, [0.05] * 50, [0.06] * 50])
    assert three.value == pytest.approx(0.05)
    assert three.seed_sd == pytest.approx(0.01)
    assert three.clip_se == pytest.approx(0.0, abs=1e-12)
    assert (three.low, three.high) == pytest.approx((0.05 - 0.0248, 0.05 + 0.0248), abs=6e-4)
    assert three.sign == 1
    assert found([[0.01] * 50, [0.05] * 50, [0.09] * 50]).sign == 0  # the same sign in all three, and yet


def test_clips_are_the_same_for_all_seeds():
    """Three seeds with the same differences are no more than one: their clips' error does not get smaller."""
    clips = list(np.random.default_rng(3).normal(0.0, 1.0, 200))
    one, three = found([clips]), found([clips] * 3)
    assert (three.low, three.high) == pytest.approx((one.low, one.high), abs=0.02)
    assert three.clip_se == pytest.approx(one.clip_se)


def test_clips_that_are_undefined_for_a_seed_are_left_out():
    assert found([[1.0, None, 3.0], [1.0, 2.0, 5.0]]).value == 2.5
    assert found([[1.0, None, 3.0]]).clips == 2
    assert found([[None, 1.0], [1.0, None]]) is None


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(numbers, min_size=6, max_size=6), min_size=1, max_size=3), st.floats(-1, 1, width=32))
def test_a_shift_of_all_clips_shifts_the_interval(values, shift):
    before = found(values, draws=500)
    after = found([[value + shift for value in row] for row in values], draws=500)
    for name in ("value", "low", "high"):
        assert getattr(after, name) == pytest.approx(getattr(before, name) + shift, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(numbers, min_size=6, max_size=6), min_size=2, max_size=4))
def test_swapping_two_rows_mirrors_their_difference_and_a_row_against_itself_holds_0(values):
    one = found([[-value for value in row] for row in values], draws=500)
    other = found(values, draws=500)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low), abs=1e-6)
    same = found([[value - value for value in row] for row in values], draws=100)
    assert same.low == same.high == 0.0
    assert same.sign == 0


@pytest.mark.parametrize(
    ("seeds", "seed_sd", "clip_sd"), [(2, 0.02, 0.2), (3, 0.02, 0.0), (3, 0.02, 0.4), (5, 0.02, 0.2)]
)
def test_noise_alone_is_seldom_taken_for_a_difference(seeds, seed_sd, clip_sd):
    """Rows that do not differ, 300 times: 0 is left out in about 15. Drawing three seeds with replacement: in 75."""
    draw, size = np.random.default_rng(11), (seeds, 100)
    wrong = 0
    for _ in range(300):
        values = draw.normal(0, seed_sd, (seeds, 1)) + draw.normal(0, clip_sd, size) + draw.normal(0, clip_sd, 100)
        wrong += interval(values.tolist(), draws=400).sign != 0
    assert wrong <= 24


def test_a_real_difference_is_seen():
    draw = np.random.default_rng(5)
    values = 0.1 + draw.normal(0, 0.01, (3, 1)) + draw.normal(0, 0.2, (3, 300))
    assert interval(values.tolist()).sign == 1
    assert interval((-values).tolist()).sign == -1


def test_students_t():
    stats = pytest.importorskip("scipy.stats")
    for freedom in (1, 2, 3, 4, 5, 9, 30, 199):
        assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=3e-3), freedom


def made(value, seed_sd, clip_se, seeds=3):
    return Interval(value, value - 1, value + 1, seeds, 400, seed_sd, clip_se)


def test_how_many_seeds_would_decide():
    """At n seeds the half width is √((t(n − 1) · 0.02 / √n)² + (1.96 · 0.002)²): 0.0222 at 6, 0.0193 at 7."""
    assert seeds_that_decide(made(0.02, 0.02, 0.002)) == 7
    assert seeds_that_decide(made(-0.02, 0.02, 0.002)) == 7
    assert seeds_that_decide(made(0.5, 0.02, 0.002)) == 2
    assert seeds_that_decide(made(0.02, 0.02, 0.02)) is None  # the clips' error alone is 0.039
    assert seeds_that_decide(made(0.02, None, 0.002, seeds=1)) is None
    assert seeds_that_decide(made(0.02, None, 0.002, seeds=1), seed_sd=0.02) == 7


def test_how_many_clips_would_decide():
    assert clips_that_decide(made(0.02, 0.01, 0.02)) == math.ceil(400 * (1.959964 * 0.02 / 0.02) ** 2)
    assert clips_that_decide(made(0.0, 0.01, 0.02)) is None
