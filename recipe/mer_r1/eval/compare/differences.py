"""Paired differences of two sets of answers to the same clips: the numbers of `main_eval compare` and of the demo."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from recipe.mer_r1.eval.answers import Answer
from recipe.mer_r1.eval.compare.sides import Part
from recipe.mer_r1.eval.corpora import official_metric, task_of
from recipe.mer_r1.eval.scoring import statistic
from recipe.mer_r1.method.bootstrap import Interval, Score, bootstrap, difference
from recipe.mer_r1.method.wheel import EmotionWheels

DRAWS = 10_000
OFFICIAL = "official"
"""Key of the mean over corpora of each corpus's own metric."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Difference(_Model):
    """One score of both sides, in 0..1, and first − second with its 95 % interval over clips (None: undefined)."""

    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None

    @property
    def side(self) -> int:
        """1 or −1 where the interval is above or below 0, else 0: the data do not tell."""
        if self.low is None or self.high is None:
            return 0
        return int(self.low > 0) - int(self.high < 0)


class Corpus(_Model):
    """All scores of one corpus, or their means over several.

    Attributes:
        corpus: the shard's `data_source`; `pooled` for the means.
        clips: that were drawn.
        metric: the score that decides: F, hit, waf or cot; `official` of the means.
        scores: by name.
        note: why there is none.
    """

    corpus: str
    clips: int
    metric: str
    scores: dict[str, Difference]
    note: str = ""

    @property
    def decides(self) -> Difference | None:
        """The difference of the metric; None where it is undefined."""
        found = self.scores.get(self.metric)
        return found if found and found.difference is not None else None


class Comparison(_Model):
    """Two modes (first side's, second side's), corpus by corpus; `pooled` is there for two corpora or more."""

    modes: tuple[str, str]
    corpora: list[Corpus]
    pooled: Corpus | None = None

    @property
    def whole(self) -> Corpus:
        """What the verdict is read from."""
        return self.pooled or self.corpora[0]


def compare(parts: Sequence[Part], wheels: EmotionWheels, *, draws: int = DRAWS, seed: int = 0) -> Comparison:
    """The differences of paired answers.

    Clips are drawn for both sides together, so that what is hard for both does not widen an interval. The pooled
    numbers are means over corpora, each with its own metric, as in the paper's tables; each corpus's clips are drawn
    inside it. No interval says what another seed of training would give.

    Args:
        parts: of one pair of modes, at least one.
        draws: of the bootstrap.

    Raises:
        InputError: the answers cannot be scored.
    """
    corpora, scores, sizes = [], [], []
    for part in parts:
        clips, sides, note = _scores(part, wheels)
        metric = official_metric(part.corpus)
        found = _differences(sides, [clips], draws, seed) if sides else {}
        corpora.append(Corpus(corpus=part.corpus, clips=clips, metric=metric, scores=found, note=note))
        if sides:
            scores.append((metric, sides))
            sizes.append(clips)
    pooled = None
    if len(scores) > 1:
        sides = tuple(_mean([(metric, both[place]) for metric, both in scores], sizes) for place in (0, 1))
        found = _differences(sides, sizes, draws, seed)
        pooled = Corpus(corpus="pooled", clips=sum(sizes), metric=OFFICIAL, scores=found)
    return Comparison(modes=parts[0].modes, corpora=corpora, pooled=pooled)


def _scores(part: Part, wheels: EmotionWheels) -> tuple[int, tuple[Score, Score] | None, str]:
    """Number of clips, the scores of both sides, and why there are none."""
    found, clips = [], 0
    for answers, mode in zip(part.answers, part.modes, strict=True):
        lines = _by_name(answers.modes[mode])
        clips = len({line.index for line in lines})
        score, note = statistic(task_of(part.corpus), lines, answers.folder / f"{mode}.jsonl", wheels)
        if score is None:
            return clips, None, note
        found.append(score)
    return clips, (found[0], found[1]), ""


def _by_name(lines: Sequence[Answer]) -> list[Answer]:
    """With rows numbered by the clips' names, which pair the two sides: their shards may have another order."""
    places = {index: place for place, (_, index) in enumerate(sorted({(line.name, line.index) for line in lines}))}
    return [line.model_copy(update={"index": places[line.index]}) for line in lines]


def _mean(scores: Sequence[tuple[str, Score]], sizes: Sequence[int]) -> Score:
    """Means over corpora: of each corpus's own metric, and of F, P and R where all corpora have them."""
    ends = np.cumsum([0, *sizes])

    def mean(counts: np.ndarray) -> dict[str, np.ndarray]:
        of_corpora = [score(counts[:, ends[place] : ends[place + 1]]) for place, (_, score) in enumerate(scores)]
        own = [found[metric] for found, (metric, _) in zip(of_corpora, scores, strict=True)]
        shared = [key for key in ("F", "P", "R") if all(key in found for found in of_corpora)]
        return {OFFICIAL: np.mean(own, axis=0)} | {
            key: np.mean([found[key] for found in of_corpora], axis=0) for key in shared
        }

    return mean


def _differences(sides: Sequence[Score], sizes: Sequence[int], draws: int, seed: int) -> dict[str, Difference]:
    first, second = ({key: float(value[0]) for key, value in side(np.ones((1, sum(sizes)))).items()} for side in sides)
    found = bootstrap([difference(*sides)], sizes, draws, seed)
    return {key: _difference(first[key], second[key], one) for key, one in found.items()}


def _difference(first: float, second: float, found: Interval) -> Difference:
    numbers: Mapping[str, float] = {
        "first": first,
        "second": second,
        "difference": found.value,
        "low": found.low,
        "high": found.high,
    }
    return Difference(**{key: None if math.isnan(value) else value for key, value in numbers.items()})
