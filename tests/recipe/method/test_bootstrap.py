"""The one bootstrap by value: clips alone, seeds and clips, several corpora; its coverage under noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recipe.mer_r1.method.bootstrap as bootstrap_module
from recipe.mer_r1.method.bootstrap import bootstrap, interval, intervals

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


def test_one_seed_is_the_case_without_the_outer_level():
    """The same draws of clips as for a score of a whole set; its interval has a side, and decides no claim."""
    values = list(np.random.default_rng(3).normal(0.5, 1.0, 200))
    one, other = interval([values], draws=300, seed=4), intervals(lambda n: {"x": n @ values / 200}, 200, 300, 4)
    assert [one.low, one.high] == pytest.approx(other["x"], abs=1e-12)
    assert (one.side, one.sign) == (1, 0)
    assert bootstrap([lambda n: {"x": n @ values / 200}], 200, 300, 4)["x"].clip_se == pytest.approx(
        one.clip_se, rel=0.1
    )


def test_seeds_of_a_score_that_is_no_mean_share_the_clips():
    """Two seeds whose scores are 1 and 3 times the same ratio: between them lies Student's interval of one freedom."""
    ratio = np.arange(1.0, 41.0)

    def score(factor):
        return lambda counts: {"x": factor * (counts @ ratio) / (counts @ np.full(40, 20.5))}

    two = bootstrap([score(1.0), score(3.0)], 40, 2000)["x"]
    assert (two.value, two.seeds, two.clips) == (pytest.approx(2.0), 2, 40)
    assert two.seed_sd == pytest.approx(2**0.5)
    assert (two.low, two.high) == pytest.approx((2 - 12.7, 2 + 12.7), abs=0.6)


def test_clips_of_several_corpora_are_drawn_inside_their_corpus():
    seen = []

    def score(counts):
        seen.append(counts)
        return {"x": counts[:, :30].mean(axis=1)}

    found = bootstrap([score], (30, 30), 200)["x"]
    assert (found.low, found.high, found.clips) == (1.0, 1.0, 60)
    drawn = seen[-1]
    assert (drawn[:, 30:].sum(axis=1) == 30).all()
    assert not (drawn[:, :30] == drawn[:, 30:]).all(axis=1).any()
    alone = []
    bootstrap([lambda counts: alone.append(counts) or {"x": counts[:, 0]}], 30, 200)
    np.testing.assert_array_equal(alone[-1], drawn[:, :30])


def test_without_draws_there_is_a_value_and_no_interval():
    found = bootstrap([lambda counts: {"x": counts.sum(axis=1)}], 5, 0)["x"]
    assert found.value == 5.0
    assert np.isnan([found.low, found.high]).all()
    assert found.side == 0
    with pytest.raises(ValueError, match="bootstrap=-1"):
        bootstrap([lambda counts: {"x": counts[:, 0]}], 5, -1)


def test_an_interval_reaches_from_the_2_5th_to_the_97_5th_percentile_of_what_is_defined():
    def score(counts):
        """0 to 1000, and one draw without a score."""
        return {"x": np.append(np.arange(len(counts) - 1.0), np.nan)}

    assert intervals(score, 5, 1002, 0) == {"x": [25.0, 975.0]}
    assert intervals(lambda counts: {"x": counts.sum(axis=1)}, 5, 1, 0) == {"x": [5.0, 5.0]}


def test_draws_in_chunks_are_the_same_draws(monkeypatch):
    rows = []

    def score(counts):
        rows.append(counts)
        return {"x": counts[:, 0]}

    expected = intervals(score, 5, 7, 0)
    whole = rows[1]  # the first is the score itself, of each clip once
    assert (whole.sum(axis=1) == 5).all()
    for chunk, sizes in ((15, [3, 3, 1]), (1, [1] * 7)):
        monkeypatch.setattr(bootstrap_module, "_CHUNK", chunk)
        rows.clear()
        assert intervals(score, 5, 7, 0) == expected
        assert [len(counts) for counts in rows[1:]] == sizes
        np.testing.assert_array_equal(np.concatenate(rows[1:]), whole)
