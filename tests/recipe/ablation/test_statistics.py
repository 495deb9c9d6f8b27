"""How many seeds, or clips, would decide a difference."""

import math

import pytest

from recipe.mer_r1.ablation.statistics import clips_that_decide, seeds_that_decide, t_quantile
from recipe.mer_r1.method.bootstrap import Interval


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
