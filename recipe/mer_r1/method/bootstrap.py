"""95 % intervals by one bootstrap, over clips and, where there are several seeds, over seeds too.

A score is a function of how often each clip was drawn, so that it can be a mean over clips or a score of the whole set
(EW, HIT, WAF). All seeds of a model answer the same clips, so seeds and clips are crossed. A draw takes

- **clips** with replacement, the same ones for all seeds, and the same ones for both sides of a difference. Clips of
  several corpora are drawn inside their corpus;
- **seeds** from Student's t: the mean of the S seeds moves by t(S − 1) · sd / √S, where sd is the standard deviation of
  the seeds' scores. Drawing three seeds with replacement would not do: noise alone gives three differences of the same
  sign in one of four cases, and such an interval then leaves out 0.

The spread of the seeds' scores holds a part of the clips' noise, which so counts twice: intervals are rather too wide.
The interval is the 2.5 % and 97.5 % percentile of the draws. Without noise from clips it is Student's interval over
seeds. With one seed this outer level is left out: only clips are drawn, and the interval then says nothing on what
another seed would give.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

Score = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""``(draws, clips)``, how often each clip was drawn → scores by name, each ``(draws,)``; NaN where undefined."""
DRAWS = 10_000
_CHUNK = 4_000_000  # counts held at once, to bound the memory of a bootstrap


@dataclass(frozen=True)
class Interval:
    """A score with its interval, of 95 % unless another level was asked for.

    Attributes:
        value, low, high: the score (of several seeds: its mean over them) and its interval; NaN where undefined.
        seeds, clips: that it is over.
        seed_sd: standard deviation of the seeds' scores; None with one seed.
        clip_se: standard error over clips, for these seeds.
        level: of the interval.
        clip_se_alone: standard error over clips of one seed alone, root mean square over the seeds; None where unknown.
    """

    value: float
    low: float
    high: float
    seeds: int
    clips: int
    seed_sd: float | None
    clip_se: float
    level: float = 0.95
    clip_se_alone: float | None = None

    @property
    def side(self) -> int:
        """1 or −1 where the interval is above or below 0; 0 where it holds 0: the data do not tell."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def sign(self) -> int:
        """`side` for a claim about training: 0 where only one seed was run."""
        return self.side if self.seeds > 1 else 0


def bootstrap(
    scores: Sequence[Score], clips: int | Sequence[int], draws: int = DRAWS, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """Scores with their intervals, by name.

    Args:
        scores: one for each seed of training, of the same clips; at least one.
        clips: their number; for several corpora the number in each, in the order of the counts.
        draws: of the clips. 0: no interval, its ends are NaN.
        level: of the intervals.

    Raises:
        ValueError: `draws` is negative.
    """
    sizes = (clips,) if isinstance(clips, int) else tuple(clips)
    if draws < 0:
        raise ValueError(f"bootstrap={draws}: the number of resamplings must not be negative")
    once = [score(np.ones((1, sum(sizes)))) for score in scores]
    drawn = _drawn(scores, sizes, draws, seed) if draws and sum(sizes) else {}
    found = {}
    for name in once[0]:
        values = np.array([one[name][0] for one in once])
        found[name] = _interval(values, drawn.get(name, np.array([math.nan])), sum(sizes), seed, level)
    return found


def interval(
    values: Sequence[Sequence[float | None]], draws: int = DRAWS, seed: int = 0, level: float = 0.95
) -> Interval | None:
    """The mean over seeds and clips with its interval; None where no clip is defined for all seeds.

    Args:
        values: ``(S, C)``, a row for each seed, the same clips in the same order; clips with a None are left out.
        level: of the interval.
    """
    matrix = np.array([[math.nan if value is None else value for value in row] for row in values], dtype=float)
    matrix = matrix[:, ~np.isnan(matrix).any(axis=0)]
    clips = matrix.shape[1]
    if not clips:
        return None
    found = bootstrap([_mean_of(row) for row in matrix], clips, draws, seed, level)["mean"]
    if clips == 1:
        return replace(found, clip_se=math.inf)
    alone = math.sqrt(matrix.var(axis=1, ddof=1).mean() / clips)
    return replace(found, clip_se=float(matrix.mean(axis=0).std(ddof=1) / math.sqrt(clips)), clip_se_alone=alone)


def intervals(score: Score, clips: int, draws: int, seed: int) -> dict[str, list[float]]:
    """`[low, high]` of the scores of one seed, by name.

    Raises:
        ValueError: `draws` is not positive.
    """
    if draws < 1:
        raise ValueError(f"bootstrap={draws}: the number of resamplings must be positive")
    return {name: [one.low, one.high] for name, one in bootstrap([score], clips, draws, seed).items()}


def difference(first: Score, second: Score) -> Score:
    """`first` − `second`, both of the same draws: what is hard for both does not widen the interval."""

    def gaps(counts: np.ndarray) -> dict[str, np.ndarray]:
        here, there = first(counts), second(counts)
        return {name: here[name] - there[name] for name in here}

    return gaps


def _mean_of(values: np.ndarray) -> Score:
    return lambda counts: {"mean": counts @ values / len(values)}


def _drawn(scores: Sequence[Score], sizes: tuple[int, ...], draws: int, seed: int) -> dict[str, np.ndarray]:
    """Mean over the seeds of each score in each draw of clips."""
    parts: dict[str, list[np.ndarray]] = {}
    for counts in _counts(sizes, draws, seed):
        of_seeds = [score(counts) for score in scores]
        for name in of_seeds[0]:
            parts.setdefault(name, []).append(np.mean([one[name] for one in of_seeds], axis=0))
    return {name: np.concatenate(values) for name, values in parts.items()}


def _interval(values: np.ndarray, drawn: np.ndarray, clips: int, seed: int, level: float) -> Interval:
    """From the seeds' scores and the draws over clips; draws without a score are left out."""
    seeds, defined = len(values), drawn[~np.isnan(drawn)]
    seed_sd = float(values.std(ddof=1)) if seeds > 1 else None
    clip_se = float(defined.std()) if len(defined) else math.nan
    if seed_sd is not None and len(defined):
        moved = _t_draws(seeds - 1, len(drawn), seed)[~np.isnan(drawn)] * seed_sd / math.sqrt(seeds)
        defined = np.concatenate([defined + moved, defined - moved])  # so that the seeds' part is symmetric
    ends = [round(50 * (1 + side * level), 9) for side in (-1, 1)]  # 2.5 and 97.5 % at 0.95
    low, high = np.percentile(defined, ends) if len(defined) else (math.nan, math.nan)
    return Interval(float(values.mean()), float(low), float(high), seeds, clips, seed_sd, clip_se, level)


def _counts(sizes: tuple[int, ...], draws: int, seed: int) -> Iterator[np.ndarray]:
    """All draws, in chunks of ``(draws of the chunk, clips)``; the chunks do not change what is drawn."""
    per_chunk = max(1, _CHUNK // sum(sizes))
    if draws <= per_chunk:
        yield _one_chunk(sizes, draws, seed)
        return
    generators = _generators(sizes, seed)
    for start in range(0, draws, per_chunk):
        yield _draw(generators, sizes, min(per_chunk, draws - start))


@lru_cache(maxsize=4)  # many scores are of the same clips
def _one_chunk(sizes: tuple[int, ...], draws: int, seed: int) -> np.ndarray:
    return _draw(_generators(sizes, seed), sizes, draws)


def _generators(sizes: tuple[int, ...], seed: int) -> list[np.random.Generator]:
    """One for each corpus; the first is that of a corpus alone. 1 is left to the seeds' draws."""
    return [np.random.default_rng([seed, place and place + 1]) for place in range(len(sizes))]


def _draw(generators: Sequence[np.random.Generator], sizes: tuple[int, ...], draws: int) -> np.ndarray:
    parts = (
        generator.multinomial(size, np.full(size, 1 / size), size=draws) if size else np.zeros((draws, 0))
        for generator, size in zip(generators, sizes, strict=True)
    )
    return np.concatenate(list(parts), axis=1).astype(float)


@lru_cache(maxsize=4)
def _t_draws(freedom: int, draws: int, seed: int) -> np.ndarray:
    """``(draws,)`` of Student's t: the middles of equal parts of many more draws, since its tails vary much."""
    generator, parts = np.random.default_rng([seed, 1]), 21
    ordered = np.sort(generator.standard_t(freedom, size=parts * draws))
    return generator.permutation(ordered[parts // 2 :: parts])
