"""How many seeds or clips would decide a difference whose interval (`method/bootstrap.py`) holds 0."""

from __future__ import annotations

import math

from scipy import stats

from recipe.mer_r1.method.bootstrap import Interval

MOST_SEEDS = 200


def seeds_that_decide(found: Interval, seed_sd: float | None = None) -> int | None:
    """The smallest number of seeds whose interval would leave out 0, if the difference and the spreads stay as seen.

    Args:
        seed_sd: taken where `found` has only one seed.

    Returns:
        None where no number up to 200 does, because the clips' error alone is too large or the spread is unknown.
    """
    spread = found.seed_sd if found.seed_sd is not None else seed_sd
    if spread is None:
        return None
    of_clips = _two_sided(stats.norm, found) * found.clip_se
    for seeds in range(2, MOST_SEEDS + 1):
        of_seeds = _two_sided(stats.t(seeds - 1), found) * spread / math.sqrt(seeds)
        if math.hypot(of_seeds, of_clips) < abs(found.value):
            return seeds
    return None


def clips_that_decide(found: Interval) -> int | None:
    """Clips with which their error alone would leave out 0; None where the difference is 0."""
    if not found.value:
        return None
    return math.ceil(found.clips * (_two_sided(stats.norm, found) * found.clip_se / found.value) ** 2)


def _two_sided(distribution: stats.rv_continuous, found: Interval) -> float:
    """The quantile that an interval of this level reaches to either side: 1.96 of the normal one at 95 %."""
    return float(distribution.ppf((1 + found.level) / 2))
