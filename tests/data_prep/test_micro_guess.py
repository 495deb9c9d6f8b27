"""Guessing sets of emotions: scores, the best constant guess, and the answer with the highest expected F1."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="probes need scikit-learn")

from data_prep.micro import card
from data_prep.micro.cues import EMOTIONS
from data_prep.micro.guess import FOLDS, answer, best_constant, guess_sets, interval, scores

SETS = np.array([each for each in product((False, True), repeat=6) if any(each)])


def sets_of(count: int, seed: int = 0) -> np.ndarray:
    """Random sets of one to three emotions."""
    rng = np.random.default_rng(seed)
    return np.array([np.isin(np.arange(6), rng.choice(6, rng.integers(1, 4), replace=False)) for _ in range(count)])


def names(row: np.ndarray) -> tuple[str, ...]:
    return tuple(np.array(EMOTIONS)[row])


def test_f1_is_the_cards():
    guess, truth = sets_of(40, 1), sets_of(40, 2)
    f1 = scores(guess, truth)[:, 2]
    assert f1.tolist() == pytest.approx([card.f1(names(g), names(t)) for g, t in zip(guess, truth, strict=True)])


def test_scores_of_one_clip():
    guess, truth = np.array([[1, 1, 1, 0, 0, 0]], bool), np.array([[0, 0, 1, 1, 0, 0]], bool)
    assert scores(guess, truth)[0].tolist() == pytest.approx([1 / 3, 1 / 2, 2 / 5])
    assert scores(guess, ~guess)[0].tolist() == [0, 0, 0]


def test_the_best_constant_beats_every_other_set():
    truth = sets_of(50)
    means = [scores(np.tile(each, (50, 1)), truth)[:, 2].mean() for each in SETS]
    assert scores(np.tile(best_constant(truth), (50, 1)), truth)[:, 2].mean() == pytest.approx(max(means))


def test_the_answer_has_the_highest_expected_f1():
    chances, known = np.random.default_rng(3).uniform(0.05, 0.95, (5, 6)), np.unique(sets_of(60), axis=0)
    for row, given in zip(chances, answer(chances, known), strict=True):
        likely = np.array([np.prod(np.where(each, row, 1 - row)) for each in known])
        expected = [(scores(np.tile(each, (len(known), 1)), known)[:, 2] * likely).sum() for each in SETS]
        reached = (scores(np.tile(given, (len(known), 1)), known)[:, 2] * likely).sum()
        assert reached == pytest.approx(max(expected))


def test_certain_chances_are_the_answer():
    truth = sets_of(20)
    assert (answer(truth.astype(float), np.unique(truth, axis=0)) == truth).all()


def test_what_features_show_is_learnt_and_what_they_do_not_show_is_not():
    truth = sets_of(400)
    features = truth + np.random.default_rng(0).normal(0, 0.2, truth.shape)
    learnt = guess_sets(features[:300], truth[:300], features[300:])
    assert scores(learnt.sets, truth[300:])[:, 2].mean() > 0.95
    assert learnt.train_f1 > 0.95
    noise = np.random.default_rng(1).normal(size=truth.shape)
    blind = scores(guess_sets(noise[:300], truth[:300], noise[300:]).sets, truth[300:])[:, 2]
    constant = scores(np.tile(best_constant(truth[:300]), (100, 1)), truth[300:])[:, 2]
    assert blind.mean() < constant.mean() + 2 * interval(constant)[0]


def test_an_emotion_that_training_never_or_always_shows():
    truth = sets_of(60)
    truth[:, 0], truth[:, 1] = False, True
    found = guess_sets(truth[:50].astype(float), truth[:50], truth[50:].astype(float)).sets
    assert not found[:, 0].any()
    assert found[:, 1].all()


def test_fewer_clips_than_folds():
    truth = sets_of(FOLDS - 1)
    with pytest.raises(ValueError, match="n_splits=3"):
        guess_sets(truth.astype(float), truth, truth.astype(float))


def test_the_interval_holds_the_mean_and_is_two_errors_wide():
    values = np.random.default_rng(5).uniform(size=500)
    error, (low, high) = interval(values)
    assert error == pytest.approx(values.std(ddof=1) / 500**0.5)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert interval(values) == (error, [low, high])
