"""Means over seeds and clips with 95 % intervals: a hierarchical bootstrap that is honest with few seeds.

All seeds of a row answer the same test clips, so seeds and clips are crossed. A draw takes

- **clips** with replacement, the same ones for all seeds;
- **seeds** from Student's t: the mean of the S seeds moves by t(S − 1) · sd / √S, where sd is the standard deviation of
  the seeds' means. Drawing three seeds with replacement would not do: noise alone gives three differences of the same
  sign in one of four cases, and such an interval then leaves out 0.

The spread of the seeds' means holds a part of the clips' noise, which so counts twice: intervals are rather too wide.
The interval is the 2.5 % and 97.5 % percentile of the draws. Without noise from clips it is Student's interval over
seeds; with one seed only clips are drawn, and it then says nothing on what another seed would give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

DRAWS = 10_000
_Z = 1.959964
_T = (12.7062, 4.3027, 3.1824, 2.7764)
"""97.5 % quantiles of Student's t for 1 to 4 degrees of freedom."""
MOST_SEEDS = 200


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and clips.

    Attributes:
        value, low, high: the mean and its 95 % interval.
        seeds, clips: that it is over.
        seed_sd: standard deviation of the seeds' means; None with one seed.
        clip_se: standard error of the mean over clips, for these seeds.
    """

    value: float
    low: float
    high: float
    seeds: int
    clips: int
    seed_sd: float | None
    clip_se: float

    @property
    def sign(self) -> int:
        """1 or −1 where the interval is above or below 0; 0 where it holds 0, or where only one seed was run."""
        if self.seeds < 2:
            return 0
        return int(self.low > 0) - int(self.high < 0)


def interval(values: Sequence[Sequence[float | None]], draws: int = DRAWS, seed: int = 0) -> Interval | None:
    """The mean with its interval; None where no clip is defined for all seeds.

    Args:
        values: ``(S, C)``, a row for each seed, the same clips in the same order; clips with a None are left out.
    """
    matrix = np.array([[math.nan if value is None else value for value in row] for row in values], dtype=float)
    matrix = matrix[:, ~np.isnan(matrix).any(axis=0)]
    seeds, clips = matrix.shape
    if not clips:
        return None
    drawn = _clip_draws(clips, draws, seed) @ matrix.mean(axis=0)
    if seeds > 1:
        moved = _t_draws(seeds - 1, draws, seed) * matrix.mean(axis=1).std(ddof=1) / math.sqrt(seeds)
        drawn = np.concatenate([drawn + moved, drawn - moved])  # so that the seeds' part is symmetric
    low, high = np.percentile(drawn, [2.5, 97.5])
    per_clip = matrix.mean(axis=0)
    return Interval(
        value=float(matrix.mean()),
        low=float(low),
        high=float(high),
        seeds=seeds,
        clips=clips,
        seed_sd=float(matrix.mean(axis=1).std(ddof=1)) if seeds > 1 else None,
        clip_se=float(per_clip.std(ddof=1) / math.sqrt(clips)) if clips > 1 else math.inf,
    )


@lru_cache(maxsize=4)  # rows have the same clips
def _clip_draws(clips: int, draws: int, seed: int) -> np.ndarray:
    """``(draws, clips)``: the weight of each clip in each draw."""
    return np.random.default_rng([seed, 0]).multinomial(clips, np.full(clips, 1 / clips), size=draws) / clips


@lru_cache(maxsize=4)
def _t_draws(freedom: int, draws: int, seed: int) -> np.ndarray:
    """``(draws,)`` of Student's t: the middles of equal parts of many more draws, since its tails vary much."""
    generator, parts = np.random.default_rng([seed, 1]), 21
    ordered = np.sort(generator.standard_t(freedom, size=parts * draws))
    return generator.permutation(ordered[parts // 2 :: parts])


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
