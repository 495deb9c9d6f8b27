"""The rewards of one response."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipe.mer_r1.method.answer import fast_response, parse, slow_response
from recipe.mer_r1.method.reward import sample_scores, score_answer, score_response, wheel_scores
from recipe.mer_r1.method.wheel import EmotionWheels

BUILTIN = EmotionWheels.builtin()
words = st.lists(
    st.sampled_from(["happy", "joyful", "angry", "sad", "scared", "excited", "neutral", "zzz"]), max_size=5
)


def plain_scores(gold, pred, wheels):
    """Eq. 4 written down with sets, wheel by wheel."""
    rows = []
    for wheel in wheels.ids:
        truth, guess = wheels.categories(gold, wheel), wheels.categories(pred, wheel)
        if not truth:
            continue
        recall = len(truth & guess) / len(truth)
        precision = len(truth & guess) / len(guess) if guess else 0.0
        rows.append((recall, precision, 2 * recall * precision / (recall + precision) if recall + precision else 0.0))
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)] if rows else None


def test_a_perfect_answer():
    scores = score_response(slow_response("She smiles.", ["joyful", "HAPPY"]), ["happy"], BUILTIN)
    assert (scores.recall, scores.precision, scores.f1, scores.format, scores.wheels) == (1, 1, 1, 1, 5)


def test_recall_and_precision_pull_apart():
    one_of_two = score_response(fast_response(["sad"]), ["sad", "angry"], BUILTIN)
    assert (one_of_two.recall, one_of_two.precision) == (0.5, 1.0)
    two_for_one = score_response(fast_response(["sad", "angry"]), ["sad"], BUILTIN)
    assert (two_for_one.recall, two_for_one.precision) == (1.0, 0.5)
    assert one_of_two.f1 == two_for_one.f1 == pytest.approx(2 / 3)


def test_a_wrong_format_costs_only_the_format():
    scores = score_response("<think>a</think><answer>sad</answer> the end", ["sad"], BUILTIN)
    assert (scores.f1, scores.format) == (1.0, 0.0)


@pytest.mark.parametrize(
    "text", ["", "sad", "<think></think><answer></answer>", "<answer>sad", "<think></think><answer>x, y</answer>"]
)
def test_nothing_answered_earns_nothing(text):
    scores = score_response(text, ["sad"], BUILTIN)
    assert (scores.recall, scores.precision, scores.f1, scores.wheels) == (0, 0, 0, 5)


def test_only_wheels_on_which_the_labels_map_take_part():
    scores = score_response(fast_response(["disgusted"]), ["disgusted"], BUILTIN)
    assert (scores.f1, scores.wheels) == (1.0, 3)


def test_the_answer_before_the_thought_has_an_f1_of_its_own():
    text = "<answer>sad</answer><think>No.</think><answer>happy</answer>"
    for labels, first, last in ((["sad"], 1.0, 0.0), (["joyful"], 0.0, 1.0)):
        scores = score_answer(parse(text, "answer_think_answer"), labels, BUILTIN)
        assert (scores.f1_first, scores.f1, scores.format) == (first, last, 1.0)


def test_level_2_tells_apart_what_level_1_does_not():
    """On w1 and w2 happy and joyful are two categories of level 2 under one of level 1."""
    assert {wheel: found.recall for wheel, found in wheel_scores(["happy"], ["joyful"], BUILTIN).items()} == (
        dict.fromkeys(BUILTIN.ids, 1.0)
    )
    level_2 = wheel_scores(["happy"], ["joyful", "sad"], BUILTIN, 2)
    assert [(found.recall, found.precision) for found in level_2.values()] == [(0, 0)] * 2 + [(1, 0.5)] * 3
    found = sample_scores(["happy"], ["joyful", "sad"], BUILTIN, 2)
    assert (found.recall, found.precision, found.f1) == pytest.approx((0.6, 0.3, 0.4))


@pytest.mark.parametrize("labels", [[], ["neutral"]])
def test_labels_that_map_nowhere_leave_nothing_to_earn(labels):
    scores = score_response(fast_response(["sad"]), labels, BUILTIN)
    assert (scores.recall, scores.precision, scores.f1, scores.format, scores.wheels) == (0, 0, 0, 1, 0)
    assert sample_scores(labels, ["sad"], BUILTIN) is None
    assert set(wheel_scores(labels, ["sad"], BUILTIN).values()) == {None}


@given(words, words)
def test_scores_equal_the_plain_statement(gold, pred):
    expected = plain_scores(gold, pred, BUILTIN)
    found = sample_scores(gold, pred, BUILTIN)
    if expected is None:
        assert found is None
    else:
        assert [found.recall, found.precision, found.f1] == pytest.approx(expected, abs=1e-12)
        response = score_response(fast_response(pred), gold, BUILTIN)
        assert [response.recall, response.precision, response.f1] == pytest.approx(expected, abs=1e-12)


@given(st.text(), words)
def test_any_response_gets_finite_scores(text, labels):
    scores = score_response(text, labels, BUILTIN)
    assert all(math.isfinite(x) and 0 <= x <= 1 for x in (scores.recall, scores.precision, scores.f1, scores.format))


@given(words, words)
def test_swapping_gold_and_answer_swaps_recall_and_precision(gold, pred):
    there, back = wheel_scores(gold, pred, BUILTIN), wheel_scores(pred, gold, BUILTIN)
    for wheel in BUILTIN.ids:
        if there[wheel] and back[wheel]:
            assert there[wheel].recall == back[wheel].precision
            assert there[wheel].f1 == back[wheel].f1
