"""How many seeds or clips would decide a difference whose interval (`method/bootstrap.py`) holds 0."""

from __future__ import annotations

import math

from scipy import stats

from recipe.mer_r1.method.bootstrap import Interval

MOST_SEEDS = 200


def seeds_that_decide(found: Interval, seed_sd: float | None = None) -> int | None:
    """The smallest number of seeds whose interval would leave out 0, if the difference and the spreads stay as seen.

    More seeds also make the clips' error smaller, as far as it differs from seed to seed.

    Args:
        seed_sd: taken where `found` has only one seed.

    Returns:
        None where no number up to 200 does, or the spread is unknown.
    """
    spread = found.seed_sd if found.seed_sd is not None else seed_sd
    if spread is None:
        return None
    for seeds in range(2, MOST_SEEDS + 1):
        of_seeds = _two_sided(stats.t(seeds - 1), found) * spread / math.sqrt(seeds)
        of_clips = _two_sided(stats.norm, found) * clip_se_at(found, seeds)
        if math.hypot(of_seeds, of_clips) < abs(found.value):
            return seeds
    return None


def clips_that_decide(found: Interval) -> int | None:
    """Clips with which the error that no seed changes would leave out 0; None where the difference is 0."""
    if not found.value:
        return None
    return math.ceil(found.clips * (_two_sided(stats.norm, found) * clip_se_at(found, math.inf) / found.value) ** 2)


def clip_se_at(found: Interval, seeds: float) -> float:
    """The standard error over clips of a mean over so many seeds.

    A clip's difference has a part that all seeds share and a part of each seed (training, sampling). The variance of
    one seed holds both, that of S seeds the first and 1/S of the second. With one seed all is taken for the second.
    """
    if found.clip_se_alone is None:
        return found.clip_se
    of_mean, alone, number = found.clip_se**2, found.clip_se_alone**2, found.seeds
    own = alone if number == 1 else min(alone, max(0.0, (alone - of_mean) * number / (number - 1)))
    shared = max(0.0, of_mean - own / number)
    return math.sqrt(shared + own / seeds)


def _two_sided(distribution: stats.rv_continuous, found: Interval) -> float:
    """The quantile that an interval of this level reaches to either side: 1.96 of the normal one at 95 %."""
    return float(distribution.ppf((1 + found.level) / 2))
