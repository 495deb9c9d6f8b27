"""Slow-fast confidence by hand: Eq. 9 to 11, the margin of Eq. 2, and what is left out."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipe.mer_r1.method.alignment import AlignedWord
from recipe.mer_r1.method.confidence import batch_metrics, calibrate
from recipe.mer_r1.method.token_sets import CategorySets
from verl_ext.actor.set_log_probs import TokenSets, set_log_probs

NAN = float("nan")
SIGNALS = ("calib_pos", "calib_neg", "calib_pos_word", "calib_neg_word")


MAPS = {
    "w1": {"happy": "joy", "glad": "joy", "sad": "low", "angry": "mad", "scared": "fear", "amazed": "surprise"},
    "w2": {"happy": "good", "glad": "good", "sad": "bad", "angry": "bad"},
}


class Wheels:
    """Two wheels small enough to compute with by hand."""

    ids = tuple(MAPS)

    def category(self, word, wheel):
        return MAPS[wheel].get(word.strip().lower())

    def categories(self, words, wheel):
        return {self.category(word, wheel) for word in words} - {None}


NAMES = [("w1", "joy"), ("w1", "low"), ("w1", "mad"), ("w1", "fear"), ("w1", "surprise"), ("w2", "good"), ("w2", "bad")]
SETS = CategorySets(NAMES, [[token] for token in range(7)], 0)

#          joy   low   mad  fear  surprise  good   bad   the word's own token
SLOW = {
    "happy": [-0.5, -2.0, -3.0, -4.0, -9.0, -0.4, -1.4, -1.0],
    "sad": [-4.0, -2.0, -4.0, -4.0, -4.0, -4.0, -1.5, -2.5],
    "angry": [-4.0, -4.0, -3.0, -4.0, -4.0, -4.0, -2.5, -3.5],
}
FAST = {
    "happy": [-1.5, -9.0, -1.0, -2.0, -3.0, -0.6, -0.6, -1.5],
    "sad": [-4.0, -1.0, -4.0, -4.0, -4.0, -4.0, -1.0, -1.0],
    "angry": [-4.0, -4.0, -3.5, -4.0, -4.0, -4.0, -1.5, -3.0],
}
OTHER = [-2.0] * 8


def calibration(answer, labels, slow=SLOW, fast=FAST, sets=SETS, **settings):
    """Of an answer in which every word has a token of its own; rows by the word as it stands, or OTHER."""
    words = [AlignedWord(word, place, place) for place, word in enumerate(answer)]
    rows = [torch.tensor([mode.get(word, OTHER) for word in answer]).reshape(-1, 8) for mode in (slow, fast)]
    return calibrate(words, *rows, labels, Wheels(), sets, **settings)


def signals(*args, **kwargs):
    found = calibration(*args, **kwargs).signals
    assert tuple(found) == SIGNALS
    return list(found.values())


def defined(*values):
    return pytest.approx(list(values), abs=1e-6, nan_ok=True)


def test_a_correct_and_two_incorrect_words():
    """Δ on w1: happy +1, sad -1, angry +0.5; on w2: happy +0.2, sad -0.5, angry -1. R⁺ = (1 + 0.2)/2 and
    R⁻ = (0.25 + 0.75)/2. By word: happy +0.5, sad -1.5, angry -0.5."""
    found = calibration(["happy", "sad", "angry"], ["happy"])
    assert list(found.signals.values()) == defined(0.6, 0.5, 0.5, 1.0)
    assert {name: defined(*gaps) for name, gaps in found.gaps.items()} == {
        ("w1", "joy"): [1.0],
        ("w1", "low"): [-1.0],
        ("w1", "mad"): [0.5],
        ("w2", "good"): [0.2],
        ("w2", "bad"): [-0.5, -1.0],
    }


def test_truth_is_by_category_and_by_wheel():
    # glad is happy's category on both wheels.
    assert signals(["happy"], ["Glad "]) == defined(0.6, NAN, 0.5, NAN)
    # On w2 anger and sadness are one category: sad is right there (Δ -0.5) and wrong on w1 (Δ -1).
    assert signals(["sad"], ["angry"]) == defined(-0.5, 1.0, -1.5, 1.5)


def test_a_side_without_words_is_undefined():
    assert signals(["happy"], ["happy"]) == defined(0.6, NAN, 0.5, NAN)
    assert signals(["sad", "angry"], ["happy"]) == defined(NAN, 0.5, NAN, 1.0)
    assert signals([], ["happy"]) == defined(NAN, NAN, NAN, NAN)


def test_a_word_counts_once_where_it_stands_first():
    slow = {**SLOW, "Happy": [-0.1] * 8, " HAPPY": [-0.2] * 8}
    found = calibration(["happy", "sad", "Happy", " HAPPY", "angry"], ["happy"], slow=slow)
    assert list(found.signals.values()) == defined(0.6, 0.5, 0.5, 1.0)
    assert [entry["counted"] for entry in found.words_json()] == [True, True, False, False, True]
    assert signals(["Happy", "happy"], ["happy"], slow=slow)[2] == pytest.approx(-0.1 + 2.0)


def test_a_word_no_wheel_knows_takes_no_part():
    rows = {"slow": {**SLOW, "table": [-9.0] * 8}, "fast": {**FAST, "table": [-0.1] * 8}}
    found = calibration(["happy", "table", "sad", "angry"], ["happy"], **rows)
    assert list(found.signals.values()) == defined(0.6, 0.5, 0.5, 1.0)
    assert found.words_json()[1]["counted"]  # its confidences are known all the same
    assert signals(["table"], ["happy"]) == defined(NAN, NAN, NAN, NAN)


def test_a_word_takes_part_on_the_wheels_that_know_it():
    # scared is on w1 alone: incorrect there, Δ = -1.
    slow = {**SLOW, "scared": [-2.0] * 3 + [-3.0] + [-2.0] * 4}
    assert signals(["scared"], ["happy"], slow=slow) == defined(NAN, 1.0, NAN, 0.0)


def test_a_wheel_without_truth_takes_no_part():
    # w2 does not know the label, so it can't call sad and angry wrong: w1's Δ alone, -1 and +0.5.
    found = calibration(["sad", "angry"], ["scared"])
    assert list(found.signals.values()) == defined(NAN, 0.25, NAN, 1.0)
    assert {wheel for wheel, _ in found.gaps} == {"w1"}
    assert found.margins["gt_slow"] == -4.0


def test_labels_no_wheel_knows_leave_all_undefined():
    for labels in ([], ["table"]):
        found = calibration(["happy", "sad"], labels)
        assert all(map(math.isnan, [*found.signals.values(), *found.margins.values()]))
        assert found.gaps == {}


def test_a_category_without_tokens_is_undefined():
    sets = CategorySets(NAMES, [[0], [], [2], [3], [4], [5], [6]], 0)
    without = {"slow": {**SLOW, "sad": [-math.inf if i == 1 else v for i, v in enumerate(SLOW["sad"])]}, "sets": sets}
    found = calibration(["happy", "sad", "angry"], ["happy"], **without)
    # On w1 only angry is left of the incorrect: R⁻ = (-0.5 + 0.75)/2. By word nothing is missing.
    assert list(found.signals.values()) == defined(0.6, 0.125, 0.5, 1.0)
    assert ("w1", "low") not in found.gaps
    assert found.words_json()[0]["slow"]["w1"]["low"] is None
    # Nor is it a hard negative: mad, fear and surprise are left.
    assert found.margins["neg_slow"] == pytest.approx(((-3 - 4 - 9) / 3 - 1.4) / 2)
    # A true category that is undefined leaves the wheel undefined.
    assert calibration(["happy"], ["sad"], sets=sets).margins["margin_slow"] == pytest.approx(-1.4 + 0.4)


def test_no_log_confidence_is_below_the_floor():
    slow = {"happy": [-math.inf] * 8}
    fast = {"happy": [-25.0] * 7 + [-15.0]}
    assert signals(["happy"], ["happy"], slow=slow, fast=fast) == defined(0.0, NAN, -5.0, NAN)
    assert signals(["happy"], ["happy"], slow=slow, fast=fast, floor=-30.0) == defined(-5.0, NAN, -15.0, NAN)
    assert calibration(["happy"], ["happy"], slow=slow, fast=fast).words_json()[0]["slow_word"] == -20.0


def test_margin_takes_the_three_likeliest_others_of_each_mode():
    found = calibration(["happy", "sad"], ["happy"]).margins
    # w1 slow: -0.5 against low, mad, fear; fast: -1.5 against mad, fear, surprise. w2 has one other.
    assert found == pytest.approx(
        {
            "gt_slow": (-0.5 - 0.4) / 2,
            "neg_slow": (-3.0 - 1.4) / 2,
            "margin_slow": (2.5 + 1.0) / 2,
            "gt_fast": (-1.5 - 0.6) / 2,
            "neg_fast": (-2.0 - 0.6) / 2,
            "margin_fast": (0.5 + 0.0) / 2,
        }
    )


def test_margin_averages_the_true_categories():
    found = calibration(["happy"], ["happy", "sad", "scared"]).margins
    # w1: joy, low and fear are true, mad and surprise the only others; w2: both are true, so it has no margin.
    assert found["gt_slow"] == pytest.approx(((-0.5 - 2.0 - 4.0) / 3 + (-0.4 - 1.4) / 2) / 2)
    assert found["neg_slow"] == pytest.approx(-6.0)
    assert found["margin_slow"] == pytest.approx((-0.5 - 2.0 - 4.0) / 3 + 6.0)


def test_a_word_without_a_token_of_its_own_has_no_row():
    """Rows are only those of the words that have one; the first of them is where the margin is read."""
    words = [AlignedWord("glad", None, None), AlignedWord("happy", 3, 4), AlignedWord("Glad", 5, 6)]
    words += [AlignedWord("sad", 7, 8), AlignedWord("angry", 9, 10)]
    slow, fast = (torch.tensor([m["happy"], OTHER, m["sad"], m["angry"]]) for m in (SLOW, FAST))
    found = calibrate(words, slow, fast, ["happy"], Wheels(), SETS)
    assert list(found.signals.values()) == defined(0.6, 0.5, 0.5, 1.0)
    assert [entry["counted"] for entry in found.words_json()] == [False, True, False, True, True]
    assert found.margins == pytest.approx(calibration(["happy"], ["happy"]).margins)


def test_rows_are_left_as_they_were():
    slow, fast = torch.full((1, 8), -50.0), torch.full((1, 8), -50.0)
    sets = CategorySets(NAMES, [[]] * 7, 0)
    calibrate([AlignedWord("happy", 0, 0)], slow, fast, ["happy"], Wheels(), sets)
    assert (slow == -50.0).all()
    assert (fast == -50.0).all()


def test_words_survive_json():
    sets = CategorySets(NAMES, [[0], [], *([token] for token in range(2, 7))], 0)
    found = calibration(["happy", "sad", "happy"], ["happy"], sets=sets).words_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    happy, _, again = found
    assert happy["word"] == "happy"
    assert happy["slow"]["w1"] == pytest.approx({"joy": -0.5, "low": None, "mad": -3.0, "fear": -4.0, "surprise": -9.0})
    assert happy["fast"]["w2"] == pytest.approx({"good": -0.6, "bad": -0.6})
    assert (happy["slow_word"], happy["fast_word"]) == (-1.0, -1.5)
    nothing = {"slow": None, "fast": None, "slow_word": None, "fast_word": None}
    assert again == {"word": "happy", "counted": False, **nothing}


def test_batch_metrics_are_means_of_what_is_defined():
    batch = [
        calibration(["happy", "sad", "angry"], ["happy"]),
        calibration(["happy"], ["happy"]),
        calibration([], ["happy"]),
        calibration(["happy"], ["table"]),
    ]
    metrics = batch_metrics(batch)
    assert not any(map(math.isnan, metrics.values()))
    assert metrics["confidence/calib_pos/mean"] == pytest.approx(0.6)
    assert metrics["confidence/calib_pos/undefined"] == 0.5
    assert metrics["confidence/calib_neg/mean"] == pytest.approx(0.5)
    assert metrics["confidence/calib_neg/undefined"] == 0.75
    assert metrics["confidence/margin_slow/mean"] == pytest.approx(1.75)
    assert metrics["confidence/delta/w1/joy"] == pytest.approx(1.0)
    assert metrics["confidence/delta/w2/bad"] == pytest.approx(-0.75)
    # Every Δ once: the first response's six, the second's two.
    assert metrics["confidence/delta/mean"] == pytest.approx((1 - 1 + 0.5 + 0.2 - 0.5 - 1 + 1 + 0.2) / 8)


def test_batch_metrics_leave_out_what_is_undefined_everywhere():
    metrics = batch_metrics([calibration([], ["happy"]), calibration(["happy"], ["table"])])
    assert metrics == {f"confidence/{name}/undefined": 1.0 for name in SIGNALS}


def test_the_mass_of_a_words_token_alone_is_the_words_own_log_prob():
    """With one token a category, the one the word begins with, category and word level are the same."""
    tokens = {"joy": 11, "low": 5, "mad": 40, "fear": 2, "surprise": 3, "good": 11, "bad": 5}
    sets = CategorySets(NAMES, [[tokens[category]] for _, category in NAMES], 0)
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([tokens["joy"], tokens["low"]])
    rows = [
        set_log_probs(torch.randn(2, 50, generator=generator) * 5, labels, TokenSets.from_lists(sets.token_ids))
        for _ in range(2)
    ]
    for row, column in ((0, 0), (0, 5), (1, 1), (1, 6)):
        assert all(torch.equal(values[row, column], values[row, -1]) for values in rows)
    words = [AlignedWord("happy", 0, 0), AlignedWord("sad", 1, 1)]
    pos, neg, pos_word, neg_word = calibrate(words, *rows, ["happy"], Wheels(), sets, floor=-100.0).signals.values()
    assert (pos, neg) == pytest.approx((pos_word, neg_word))
    assert pos != 0 != neg


@st.composite
def responses(draw, wheels):
    """Words, labels and rows above the floor on the built-in wheels."""
    vocabulary = st.sampled_from(["happy", "Joyful", "sad", "angry", "worried", "scared", "calm", "proud", "table"])
    answer = draw(st.lists(vocabulary, min_size=1, max_size=6))
    sets = CategorySets(names := names_of(wheels), [[0] if draw(st.integers(0, 9)) else [] for _ in names], 0)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    slow, fast = (-9 * torch.rand(len(answer), len(names) + 1, generator=generator).double() for _ in range(2))
    words = [AlignedWord(word, place, place) for place, word in enumerate(answer)]
    return words, slow, fast, draw(st.lists(vocabulary, max_size=3)), wheels, sets


def names_of(wheels):
    return [(wheel, category) for wheel in wheels.ids for category in wheels.all_categories(wheel)]


@settings(max_examples=60)
@given(st.data())
def test_swapping_slow_and_fast_turns_every_sign(builtin, data):
    words, slow, fast, *rest = data.draw(responses(builtin))
    one, other = calibrate(words, slow, fast, *rest), calibrate(words, fast, slow, *rest)
    assert list(other.signals.values()) == defined(*(-value for value in one.signals.values()))
    for part in ("gt", "neg", "margin"):
        assert one.margins[f"{part}_slow"] == pytest.approx(other.margins[f"{part}_fast"], nan_ok=True)


@settings(max_examples=60)
@given(st.data(), st.floats(-5, 5))
def test_a_constant_on_slow_rows_moves_rewards_and_not_the_margin(builtin, data, constant):
    words, slow, fast, *rest = data.draw(responses(builtin))
    one, other = calibrate(words, slow, fast, *rest), calibrate(words, slow + constant, fast, *rest)
    signs = (1, -1, 1, -1)
    moved = [value + sign * constant for value, sign in zip(one.signals.values(), signs, strict=True)]
    assert list(other.signals.values()) == defined(*moved)
    assert other.margins["margin_slow"] == pytest.approx(one.margins["margin_slow"], abs=1e-6, nan_ok=True)
    assert other.margins["gt_slow"] == pytest.approx(one.margins["gt_slow"] + constant, abs=1e-6, nan_ok=True)


@settings(max_examples=60)
@given(st.data())
def test_repeating_the_answer_changes_nothing(builtin, data):
    words, slow, fast, *rest = data.draw(responses(builtin))
    once = calibrate(words, slow, fast, *rest)
    twice = calibrate(words * 2, torch.cat([slow, slow - 1]), torch.cat([fast, fast + 1]), *rest)
    assert list(twice.signals.values()) == defined(*once.signals.values())
    assert twice.margins == pytest.approx(once.margins, nan_ok=True)
