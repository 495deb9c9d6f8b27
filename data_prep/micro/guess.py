"""Guessing a set of emotions: a trained linear guesser, the best constant guess, and the scores of a guess.

Sets of emotions are rows of booleans, one column an emotion, in the order of `cues.EMOTIONS`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from data_prep.micro.cues import EMOTIONS

STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""Inverse regularisation of the logistic regressions; the one that guesses best out of fold is taken."""
FOLDS = 3
_DRAWS = 2000  # of the bootstrap
_LEAST_CHANCE = 1e-4  # no emotion is ever certain, so that one wrong certainty cannot rule out the right set


@dataclass(frozen=True, slots=True)
class Guesses:
    """Guessed sets of the test clips, each (clips, emotions), and how they were chosen."""

    sets: np.ndarray
    strength: float
    """Inverse regularisation that was chosen."""
    train_f1: float
    """Mean F1 on the training clips, each guessed by a model that was not trained on it; 0..1."""


def scores(guess: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Precision, recall and F1 of each clip, (clips, 3), in 0..1: the reward's own definition, with one wheel.

    P = hits / guessed, R = hits / true, F1 = 2PR / (P + R); a clip without a hit earns 0.
    """
    hits, guessed, true = (sets.sum(axis=1) for sets in (guess & truth, guess, truth))
    return np.stack([hits / np.maximum(guessed, 1), hits / true, 2 * hits / (guessed + true)], axis=1)


def interval(values: np.ndarray) -> tuple[float, list[float]]:
    """Standard error of the mean, and its 95 % interval by resampling the clips (percentiles, fixed seed)."""
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    picks = np.random.default_rng(0).integers(len(values), size=(_DRAWS, len(values)))
    return error, [float(edge) for edge in np.percentile(values[picks].mean(axis=1), [2.5, 97.5])]


def best_constant(truth: np.ndarray) -> np.ndarray:
    """The one set that has the highest mean F1 when it is the answer to every clip."""
    return _every_set()[_f1_of_answers(truth).mean(axis=1).argmax()]


def guess_sets(train: np.ndarray, truth: np.ndarray, test: np.ndarray) -> Guesses:
    """Train on (clips, features) and their sets, guess the sets of the test clips.

    One logistic regression an emotion gives its chance; the answer is the set with the highest expected F1 (see
    `answer`). The regularisation is the one with the best mean F1 out of fold on the training clips: nothing is chosen
    on the test clips. Raises ValueError for fewer than `FOLDS` training clips.
    """
    known = np.unique(truth, axis=0)

    def out_of_fold(strength: float) -> float:
        chances = np.zeros(truth.shape)
        for fit, held in KFold(FOLDS).split(train):
            chances[held] = _chances(train[fit], truth[fit], train[held], strength)
        return float(scores(answer(chances, known), truth)[:, 2].mean())

    f1 = {strength: out_of_fold(strength) for strength in STRENGTHS}
    strength = max(f1, key=lambda each: f1[each])
    return Guesses(answer(_chances(train, truth, test, strength), known), strength, f1[strength])


def answer(chances: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The sets with the highest expected F1 for the emotions' chances, (clips, emotions).

    The truth is taken to be one of the `known` sets, each as likely as the product of its emotions' chances (present
    or absent). Simply naming what is likelier than not would lose much where only one cue of three is known.
    """
    chances = np.clip(chances, _LEAST_CHANCE, 1 - _LEAST_CHANCE)
    likely = np.log(chances) @ known.T + np.log(1 - chances) @ ~known.T
    likely = np.exp(likely - likely.max(axis=1, keepdims=True))
    return _every_set()[(likely @ _f1_of_answers(known).T).argmax(axis=1)]


def _chances(train: np.ndarray, truth: np.ndarray, test: np.ndarray, strength: float) -> np.ndarray:
    columns = []
    for present in truth.T:
        if present.all() or not present.any():  # in a very small corpus; a regression needs both
            columns.append(np.full(len(test), float(present[0])))
            continue
        model = LogisticRegression(C=strength, max_iter=1000)
        with warnings.catch_warnings():
            # The weakest regularisation may not settle; it is compared out of fold like the others.
            warnings.simplefilter("ignore", ConvergenceWarning)
            columns.append(model.fit(train, present).predict_proba(test)[:, 1])
    return np.stack(columns, axis=1)


@cache
def _every_set() -> np.ndarray:
    """All 63 sets of one emotion or more."""
    return np.array([each for each in product((False, True), repeat=len(EMOTIONS)) if any(each)])


def _f1_of_answers(truth: np.ndarray) -> np.ndarray:
    """(sets, truths): the F1 of each possible answer to each truth."""
    sets = _every_set().astype(float)
    return 2 * sets @ truth.T / (sets.sum(axis=1)[:, None] + truth.sum(axis=1))
