"""Which frames are kept, by their times, whatever a header announces."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_ext.data.clock import sample_indices, timeline

BURST = [k / 30 for k in range(30)] + [float(k) for k in range(1, 10)]
"""A second at 30 a second, then one frame each second."""


@given(st.integers(1, 600), st.sampled_from([1.0, 12.5, 23.976, 29.97, 60.0]), st.integers(0, 10**6))
def test_a_constant_rate_keeps_the_frames_of_the_header_though_stamps_are_rounded(number, rate, seed):
    jitter = np.random.default_rng(seed).uniform(-0.3, 0.3, number)
    times = timeline([round((k + j) / rate, 3) for k, j in enumerate(jitter)], rate)
    assert times.steady
    assert times.fps == rate
    assert times.choose(2.0, 64).tolist() == sample_indices(number, rate, 2.0, 64).tolist()


def test_a_variable_rate_is_kept_by_time():
    times = timeline(BURST, 39 / 9.04, last=0.04)
    assert times.seconds == pytest.approx(9.04)
    kept = times.choose(2.0, 64)
    assert len(kept) == 18
    # 0.53 s apart: of the first second two frames, then every frame twice, but the last two, whose time is shorter.
    assert kept.tolist() == [0, 16, *(index for frame in range(30, 37) for index in (frame, frame)), 37, 38]


@pytest.mark.parametrize("announced", [1000.0, 5.0, None])
def test_a_wrong_announced_rate_does_not_matter(announced):
    times = timeline([k / 15 for k in range(60)], announced, last=0.001)
    assert times.seconds == pytest.approx(4.0)
    kept = times.choose(2.0, 64)
    assert kept.tolist() == timeline([k / 15 for k in range(60)], 15.0).choose(2.0, 64).tolist()
    assert len(kept) == 8


def test_a_picture_that_starts_after_its_sound_shows_its_first_frame_until_then():
    times = timeline([2.0 + k / 10 for k in range(20)], 10.0)
    assert times.seconds == pytest.approx(4.0)
    assert times.choose(2.0, 64).tolist() == [0, 0, 0, 0, 2, 8, 13, 19]


def test_a_last_frame_that_is_held_is_kept_again():
    times = timeline([k / 10 for k in range(11)], 10.0, last=3.0)
    assert times.seconds == pytest.approx(4.0)
    assert times.choose(2.0, 64).tolist() == [0, 6, *[10] * 6]


def test_without_time_stamps_the_header_is_believed():
    assert timeline([None] * 50, 25.0).seconds == pytest.approx(2.0)
    assert timeline([None] * 4, None).seconds == pytest.approx(2.0)
    assert timeline([0.0, None, 0.08], 25.0).starts_N == pytest.approx([0, 0.04, 0.08])


def test_stamps_that_go_back_do_not_break_the_order():
    times = timeline([0.0, 3.0, 1.0, 4.0], 1.0)
    assert times.starts_N.tolist() == [0, 3, 3, 4]
    assert (np.diff(times.choose(2.0, 64)) >= 0).all()


def test_a_single_frame_is_repeated():
    assert timeline([0.0], 25.0).choose(2.0, 64).tolist() == [0, 0]
    assert timeline([5.0], 25.0).choose(2.0, 4).tolist() == [0] * 4
