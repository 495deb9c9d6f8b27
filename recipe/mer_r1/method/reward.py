"""Rewards of one response: recall and precision of its categories (Eq. 4), their F1 (Eq. 38 per sample), and format.

Per wheel the sets are the level-1 categories of the labels and of the answer's words; the reward is the mean over the
wheels on which the labels map at all. Pure Python on purpose: the rollout workers, the tests and the evaluation share
it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from recipe.mer_r1.method.answer import Answer, parse
from recipe.mer_r1.method.wheel import EmotionWheels


@dataclass(frozen=True, slots=True)
class SetScores:
    """Recall, precision and F1 of a set of words against another, each in 0..1."""

    recall: float
    precision: float
    f1: float


@dataclass(frozen=True, slots=True)
class Scores:
    """The rewards of a response, each in 0..1.

    `wheels` counts the wheels that took part. Where it is 0 the labels map on no wheel, nothing can be earned, and
    recall, precision and F1 are 0 for every response.
    """

    recall: float
    precision: float
    f1: float
    format: float
    wheels: int
    f1_first: float = 0.0
    """F1 of the answer given before the thought, in forms that have one (VideoAuto-R1)."""


_NOTHING_RIGHT = SetScores(0.0, 0.0, 0.0)


def score_response(text: str, labels: Iterable[str], wheels: EmotionWheels) -> Scores:
    """Score a response against its ground-truth labels; never raises, whatever the model wrote."""
    return score_answer(parse(text), labels, wheels)


def score_answer(answer: Answer, labels: Iterable[str], wheels: EmotionWheels) -> Scores:
    """The same for a response that was parsed, in whatever form.

    An answer is scored by its words even where the format is wrong (see `answer.parse` for what counts as an answer):
    the format has a reward of its own.
    """
    gold, wheel_masks = wheels.mask(labels), wheels.wheel_masks()
    mean, count = _mean_scores(gold, wheels.mask(answer.words), wheel_masks)
    first, _ = _mean_scores(gold, wheels.mask(answer.first_words), wheel_masks)
    return Scores(mean.recall, mean.precision, mean.f1, 1.0 if answer.well_formed else 0.0, count, first.f1)


def sample_scores(gold: Iterable[str], pred: Iterable[str], wheels: EmotionWheels, level: int = 1) -> SetScores | None:
    """Recall, precision and F1 averaged over the wheels on which `gold` maps; None where it maps on none."""
    mean, count = _mean_scores(wheels.mask(gold, level), wheels.mask(pred, level), wheels.wheel_masks(level))
    return mean if count else None


def wheel_scores(
    gold: Iterable[str], pred: Iterable[str], wheels: EmotionWheels, level: int = 1
) -> dict[str, SetScores | None]:
    """The same per wheel ("w1" …); None where `gold` does not map on it."""
    scores = _mask_scores(wheels.mask(gold, level), wheels.mask(pred, level), wheels.wheel_masks(level))
    return dict(zip(wheels.ids, scores, strict=True))


def _mask_scores(gold: int, pred: int, wheel_masks: tuple[int, ...]) -> list[SetScores | None]:
    """The same for categories held as bits (`EmotionWheels.mask`), in wheel order."""
    return [_set_scores(gold & mask, pred & mask) for mask in wheel_masks]


def _set_scores(gold: int, pred: int) -> SetScores | None:
    """Eq. 4 on two sets of categories held as bits; an empty prediction earns nothing."""
    if not gold:
        return None
    hits = (gold & pred).bit_count()
    if not hits:
        return _NOTHING_RIGHT
    size_gold, size_pred = gold.bit_count(), pred.bit_count()
    # 2PR/(P+R) with P = hits/size_pred and R = hits/size_gold
    return SetScores(hits / size_gold, hits / size_pred, 2 * hits / (size_gold + size_pred))


@lru_cache(maxsize=100_000)  # the same few pairs of sets come again and again
def _mean_scores(gold: int, pred: int, wheel_masks: tuple[int, ...]) -> tuple[SetScores, int]:
    """The mean over the wheels on which `gold` is not empty, and their number."""
    scores = [score for score in _mask_scores(gold, pred, wheel_masks) if score]
    count = len(scores)
    if not count:
        return _NOTHING_RIGHT, 0
    recall = sum(score.recall for score in scores) / count
    precision = sum(score.precision for score in scores) / count
    return SetScores(recall, precision, sum(score.f1 for score in scores) / count), count
