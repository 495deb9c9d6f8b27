"""How many seeds, or clips, would decide a difference."""

import math
from dataclasses import replace

import pytest

from recipe.mer_r1.ablation.statistics import clip_se_at, clips_that_decide, seeds_that_decide
from recipe.mer_r1.method.bootstrap import Interval


def made(value, seed_sd, clip_se, seeds=3, level=0.95):
    return Interval(value, value - 1, value + 1, seeds, 400, seed_sd, clip_se, level)


def test_how_many_seeds_would_decide():
    """At n seeds the half width is √((t(n − 1) · 0.02 / √n)² + (1.96 · 0.002)²): 0.0222 at 6, 0.0193 at 7."""
    assert seeds_that_decide(made(0.02, 0.02, 0.002)) == 7
    assert seeds_that_decide(made(-0.02, 0.02, 0.002)) == 7
    assert seeds_that_decide(made(0.5, 0.02, 0.002)) == 2
    assert seeds_that_decide(made(0.02, 0.02, 0.02)) is None  # the clips' error alone is 0.039
    assert seeds_that_decide(made(0.02, None, 0.002, seeds=1)) is None
    assert seeds_that_decide(made(0.02, None, 0.002, seeds=1), seed_sd=0.02) == 7


def test_a_higher_level_needs_more():
    """At 1 − .05/3: √((t(n − 1) · 0.02 / √n)² + (2.394 · 0.002)²) is 0.0207 at 9 seeds, 0.0192 at 10."""
    assert seeds_that_decide(made(0.02, 0.02, 0.002, level=1 - 0.05 / 3)) == 10
    assert clips_that_decide(made(0.02, 0.01, 0.02, level=1 - 0.05 / 3)) == math.ceil(400 * 2.393980**2)


def test_the_part_of_the_clips_error_that_seeds_do_not_share_shrinks():
    found = replace(made(0.02, 0.0, 0.005, seeds=4), clip_se_alone=0.01)  # 0.005 = 0.01 / √4: nothing is shared
    assert clip_se_at(found, 4) == pytest.approx(0.005)
    assert clip_se_at(found, 100) == pytest.approx(0.001)
    assert clips_that_decide(found) <= 1
    half = replace(found, clip_se=math.sqrt((0.01**2 + 3 * 0.006**2) / 4))  # a part of 0.006, and 0.008 of each seed
    assert clip_se_at(half, 4) == pytest.approx(half.clip_se)
    assert clip_se_at(half, math.inf) == pytest.approx(0.006)
    assert clip_se_at(half, 1) == pytest.approx(0.01)
    whole = replace(found, clip_se=0.01)  # all seeds have the same differences
    assert clip_se_at(whole, math.inf) == pytest.approx(0.01)
    one = replace(found, seeds=1, clip_se=0.01)
    assert clip_se_at(one, 4) == pytest.approx(0.005)
    # √((t(n − 1) · 0.02 / √n)² + (1.96 · 0.01 / √n)²) is 0.0225 at 6 seeds and 0.0199 at 7.
    assert seeds_that_decide(replace(made(0.02, 0.02, 0.005, seeds=4), clip_se_alone=0.01)) == 7
    assert seeds_that_decide(replace(made(0.02, 0.02, 0.01, seeds=4), clip_se_alone=0.01)) > 50  # all of it is shared


def test_how_many_clips_would_decide():
    assert clips_that_decide(made(0.02, 0.01, 0.02)) == math.ceil(400 * (1.959964 * 0.02 / 0.02) ** 2)
    assert clips_that_decide(made(0.0, 0.01, 0.02)) is None
