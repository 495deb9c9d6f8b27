"""Which clips are cases of which kind, by hand-made answers on the built-in wheels."""

import pytest

from recipe.mer_r1.eval.answers import Answer
from recipe.mer_r1.eval.cases.inputs import Clip, Pair
from recipe.mer_r1.eval.cases.kinds import KINDS, find, recovered, retained, suppressed
from recipe.mer_r1.eval.cases.marks import Mark, marks

RETENTION, SUPPRESSION, RECOVERY = KINDS
UNSEEN = "bored"
"""Slow words of the baseline where the rule does not look at them."""


def answer(words):
    return Answer.model_construct(words=[word.strip() for word in words.split(",") if word.strip()])


def clip(labels, fast, slow, final, index=0):
    pair = Pair(slow=answer(final), fast=answer(UNSEEN))
    return Clip(index, f"clip_{index}", answer(labels).words, Pair(slow=answer(slow), fast=answer(fast)), pair)


def holds(kind, builtin, *words):
    return bool(find(kind, [clip(*words)], builtin))


PAPER = {
    "table 6": (
        RETENTION,
        "angry, dissatisfied",
        "angry, frustrated, anxious, disappointed",
        "disappointment, frustration",
        "angry, frustrated, anxious, stressed",
    ),
    "table 8": (
        SUPPRESSION,
        "concerned, negative, sad",
        "angry, frustrated, anxious, sad, disappointed",
        UNSEEN,
        "concerned, worried, sad, anxious",
    ),
    "table 9": (
        SUPPRESSION,
        "sad",
        "anxiety, nervousness, worry, confusion, frustration, disappointment, stress, sadness, "
        "anger, resentment, urgency, despair, panic",
        UNSEEN,
        "anxiety, sadness, concern, worry",
    ),
    "table 10": (
        RECOVERY,
        "relaxed, shy, happy, teasing",
        "excited, anxious, frustrated, stressed, stressed out",
        UNSEEN,
        "happy, content, playful, teasing, amused",
    ),
    "table 11": (
        RECOVERY,
        "surprised",
        "disappointment, frustration, anxiety",
        UNSEEN,
        "confused, anxious, surprised, frustrated",
    ),
}


@pytest.mark.parametrize("table", PAPER)
def test_the_papers_cases_are_found(any_wheels, table):
    kind, *words = PAPER[table]
    assert holds(kind, any_wheels, *words)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        # Excitement and gratitude are of the category of happy: the slow answer drops a word, no category.
        (
            RETENTION,
            (
                "happy",
                "happy, surprised, grateful",
                "excitement, gratitude, surprise",
                "happy, grateful, appreciative, positive",
            ),
        ),
        # Anxious is of the category of worried: the fast answer misses none.
        (RECOVERY, ("worried", "angry, anxious, frustrated", UNSEEN, "concerned, fearful, worried, anxious")),
    ],
)
def test_two_of_the_papers_cases_are_cases_of_words_alone(builtin, kind, words):
    assert not holds(kind, builtin, *words)


@pytest.mark.parametrize(
    ("words", "is_case"),
    [
        (("sad, angry", "sad, angry", "sad", "angry"), True),
        (("sad, angry", "sad, angry", "sad", "furious"), True),  # by another word of the category
        (("sad, angry", "sad, angry", "sad, furious", "angry"), False),  # the baseline keeps it by another word
        (("sad, angry", "sad, angry", "sad", "sad"), False),  # dropped by both
        (("sad, angry", "sad", "sad", "angry"), False),  # not in the fast answer
        (("sad", "sad, angry", "sad", "angry"), False),  # not true
        (("sad, angry", "sad, angry", "sad", ""), False),
    ],
)
def test_retention(builtin, words, is_case):
    assert holds(RETENTION, builtin, *words) == is_case


@pytest.mark.parametrize(
    ("words", "is_case"),
    [
        (("sad", "sad, angry", UNSEEN, "sad"), True),
        (("sad", "sad, angry, happy", UNSEEN, "lonely, happy"), True),  # one of two left out
        (("sad", "sad, angry", UNSEEN, "sad, furious"), False),  # the same by another word
        (("sad", "sad, angry", UNSEEN, "sad, happy"), False),  # exchanged for another wrong one
        (("sad, happy", "sad, happy, angry", UNSEEN, "sad"), False),  # a true one is lost with it
        (("sad", "angry", UNSEEN, "sad"), False),  # the fast answer is wrong, it does not cover too much
        (("sad", "sad, angry", UNSEEN, ""), False),
    ],
)
def test_suppression(builtin, words, is_case):
    assert holds(SUPPRESSION, builtin, *words) == is_case


@pytest.mark.parametrize(
    ("words", "is_case"),
    [
        (("sad, angry", "sad", UNSEEN, "furious"), True),
        (("sad, angry", "sad, annoyed", UNSEEN, "angry"), False),  # covered by another word
        (("sad, angry", "sad", UNSEEN, "sad, happy"), False),
        (("neutral", "sad", UNSEEN, "neutral"), False),  # labels that no wheel knows
    ],
)
def test_recovery(builtin, words, is_case):
    assert holds(RECOVERY, builtin, *words) == is_case


def test_a_rule_must_hold_on_more_than_half_of_the_wheels(builtin):
    # Proud differs from happy on w3, w4 and w5; confused from surprised on two of the four wheels that know surprised.
    (case,) = find(RECOVERY, [clip("happy", "proud", UNSEEN, "happy")], builtin)
    assert list(case.found) == ["w3", "w4", "w5"]
    assert case.score == pytest.approx(3 / 5)
    assert not holds(RECOVERY, builtin, "surprised", "confused", UNSEEN, "surprised")


def test_cases_come_by_score_then_gain_then_row(builtin):
    clips = [
        clip("sad", "angry", UNSEEN, "sad, happy", 0),
        clip("sad", "angry", UNSEEN, "sad", 1),
        clip("sad, happy", "angry", UNSEEN, "sad, happy", 2),
        clip("sad", "angry", UNSEEN, "lonely", 3),
        clip("happy", "proud", UNSEEN, "happy", 4),
    ]
    found = find(RECOVERY, clips, builtin)
    assert [case.clip.index for case in found] == [2, 1, 3, 0, 4]
    assert [round(case.score, 2) for case in found] == [2, 1, 1, 1, 0.6]
    assert found[1].gain == pytest.approx(1)
    assert find(RECOVERY, clips[::-1], builtin) == found


def test_gain_is_over_the_slow_answer_for_retention_alone(builtin):
    words = ("sad, angry", "sad, angry, happy", "sad", "sad, angry")
    (kept,) = find(RETENTION, [clip(*words)], builtin)
    (left_out,) = find(SUPPRESSION, [clip(*words)], builtin)
    assert kept.gain == pytest.approx(1 - 2 / 3)
    assert left_out.gain == pytest.approx(1 - 4 / 5)


def test_rules_name_the_categories():
    assert retained({"a", "b"}, {"a", "b", "x"}, {"b"}, {"a", "x"}) == {"a"}
    assert suppressed({"a"}, {"a", "x", "y"}, set(), {"a", "y"}) == {"x"}
    assert recovered({"a", "b"}, {"b", "x"}, set(), {"a", "b", "y"}) == {"a"}


def test_models_can_be_exchanged():
    one = clip("sad", "angry", "happy", "sad")
    assert one.exchanged().baseline is one.mer_r1
    assert one.exchanged().exchanged() == one


def test_words_are_marked_and_missed_labels_named(builtin):
    found = marks(["lonely", "Angry", "blorp", "proud"], ["sad", "happy", "neutral"], builtin)
    assert found == [
        Mark("lonely", "correct"),
        Mark("Angry", "incorrect"),
        Mark("blorp", "unknown"),
        Mark("proud", "mixed", ("w1", "w2")),
        Mark("happy", "missed", ("w3", "w4", "w5")),
    ]
    assert marks(["sad"], ["happy"], builtin) == [Mark("sad", "incorrect"), Mark("happy", "missed")]
    assert marks(["sad"], ["neutral"], builtin) == [Mark("sad", "unknown")]
