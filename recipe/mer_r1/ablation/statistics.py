"""How many seeds or clips would decide a difference whose interval (`method/bootstrap.py`) holds 0."""

from __future__ import annotations

import math

from recipe.mer_r1.method.bootstrap import Interval

_Z = 1.959964
_T = (12.7062, 4.3027, 3.1824, 2.7764)
"""97.5 % quantiles of Student's t for 1 to 4 degrees of freedom."""
MOST_SEEDS = 200


def t_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's t (above 4 degrees of freedom by its expansion, to 1e-3)."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    z, n = _Z, freedom
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / n + second / n**2 + third / n**3


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
    for seeds in range(2, MOST_SEEDS + 1):
        half = math.hypot(t_quantile(seeds - 1) * spread / math.sqrt(seeds), _Z * found.clip_se)
        if half < abs(found.value):
            return seeds
    return None


def clips_that_decide(found: Interval) -> int | None:
    """Clips with which their error alone would leave out 0; None where the difference is 0."""
    if not found.value:
        return None
    return math.ceil(found.clips * (_Z * found.clip_se / found.value) ** 2)
