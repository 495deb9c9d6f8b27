"""Slow-fast confidence by hand: Eq. 9 to 11, the margin of Eq. 2, and what is left out."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipe.mer_r1.method.alignment import AlignedWord
from recipe.mer_r1.method.confidence import batch_metrics, calibrate, read
from recipe.mer_r1.method.token_sets import CategorySets
from recipe.mer_r1.method.word_confidence import Coverage, WordConfidence
from verl_ext.actor.set_log_probs import TokenSets, set_log_probs

NAN = float("nan")
SIGNALS = ("calib_pos", "calib_neg", "calib_pos_word", "calib_neg_word")


MAPS = {
    "w1": {"happy": "joy", "glad": "joy", "sad": "low", "angry": "mad", "scared": "fear", "amazed": "surprise"},
    "w2": {"happy": "good", "glad": "good", "calm": "good", "sad": "bad", "angry": "bad"},
}


class Wheels:
    """Two wheels small enough to compute with by hand."""

    ids = tuple(MAPS)

    def category(self, word, wheel):
        return MAPS[wheel].get(word.strip().lower())

    def categories(self, words, wheel):
        return {self.category(word, wheel) for word in words} - {None}


NAMES = [("w1", "joy"), ("w1", "low"), ("w1", "mad"), ("w1", "fear"), ("w1", "surprise"), ("w2", "good"), ("w2", "bad")]
TOKENS = [[0], [1], [2], [3], [4], [0], [1, 2]]
"""A word's own token is that of its category on w1; on w2 it is in its category's set, too."""
TOKEN = {"happy": 0, "glad": 0, "sad": 1, "angry": 2, "scared": 3, "amazed": 4}


def category_sets(token_ids, names=NAMES):
    """Every token counts in full."""
    return CategorySets(names, token_ids, [[1.0] * len(ids) for ids in token_ids])


SETS = category_sets(TOKENS)

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
    words = [AlignedWord(word, at, at, TOKEN.get(word.strip().lower(), 9)) for at, word in enumerate(answer)]
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


def test_means_are_over_words_and_then_over_wheels():
    """w1 has two words and w2 has one. Δ on w1: sad -1, scared -3; on w2: sad -0.5. By word: sad -1.5, scared -2."""
    slow = {**SLOW, "scared": [-2.0] * 3 + [-5.0] + [-2.0] * 3 + [-4.0]}
    assert signals(["sad", "scared"], ["happy"], slow=slow) == defined(NAN, (2 + 0.5) / 2, NAN, (1.75 + 1.5) / 2)
    right = signals(["sad", "scared"], ["sad", "scared"], slow=slow)
    assert right == defined(-(2 + 0.5) / 2, NAN, -(1.75 + 1.5) / 2, NAN)


def test_a_wheel_without_truth_takes_no_part():
    # w2 does not know the label, so it can't call sad and angry wrong: w1's Δ alone, -1 and +0.5.
    found = calibration(["sad", "angry"], ["scared"])
    assert list(found.signals.values()) == defined(NAN, 0.25, NAN, 1.0)
    assert {wheel for wheel, _ in found.gaps} == {"w1"}
    assert found.margins["gt_slow"] == -4.0
    # w1 comes first and does not know calm: the margin is that of w2.
    margins = calibration(["happy"], ["calm"]).margins
    assert margins["gt_slow"] == pytest.approx(-0.4)
    assert margins["margin_slow"] == margins["margin_all_slow"] == pytest.approx(-0.4 + 1.4)


def test_labels_no_wheel_knows_leave_all_undefined():
    for labels in ([], ["table"]):
        found = calibration(["happy", "sad"], labels)
        assert all(map(math.isnan, [*found.signals.values(), *found.margins.values()]))
        assert found.gaps == {}


def test_a_category_without_tokens_is_undefined():
    sets = category_sets([[0], [], *TOKENS[2:]])
    without = {"slow": {**SLOW, "sad": [-math.inf if i == 1 else v for i, v in enumerate(SLOW["sad"])]}, "sets": sets}
    found = calibration(["happy", "sad", "angry"], ["happy"], **without)
    # Where sad stands its own token is all that low has: Δ = -2.5 + 1; R⁻ = ((1.5 - 0.5)/2 + 0.75)/2.
    assert list(found.signals.values()) == defined(0.6, 0.625, 0.5, 1.0)
    assert found.gaps["w1", "low"] == pytest.approx([-1.5])
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
    # The same where no set has the word's token, so that its probability 0 is added to the mass 0.
    without = calibration(["happy"], ["happy"], slow=slow, fast=fast, sets=category_sets([[9]] * 7))
    assert without.words_json()[0]["slow"]["w1"] == dict.fromkeys(MAPS["w1"].values(), -20.0)


def test_margin_takes_the_three_likeliest_others_of_each_mode():
    found = calibration(["happy", "sad"], ["happy"]).margins
    # w1 slow: -0.5 against low, mad, fear; fast: -1.5 against mad, fear, surprise. w2 has one other.
    assert found == pytest.approx(
        {
            "gt_slow": (-0.5 - 0.4) / 2,
            "neg_slow": (-3.0 - 1.4) / 2,
            "margin_slow": (2.5 + 1.0) / 2,
            # Where sad stands: w1 -4 against low, mad, fear; w2 -4 against -1.5. Then the mean over both places.
            "margin_all_slow": ((2.5 + (10 / 3 - 4)) / 2 + (1.0 - 2.5) / 2) / 2,
            "gt_fast": (-1.5 - 0.6) / 2,
            "neg_fast": (-2.0 - 0.6) / 2,
            "margin_fast": (0.5 + 0.0) / 2,
            "margin_all_fast": ((0.5 - 1.0) / 2 + (0.0 - 3.0) / 2) / 2,
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
    words = [AlignedWord("glad", None, None), AlignedWord("happy", 3, 4, 0), AlignedWord("Glad", 5, 6, 0)]
    words += [AlignedWord("sad", 7, 8, 1), AlignedWord("angry", 9, 10, 2)]
    slow, fast = (torch.tensor([m["happy"], OTHER, m["sad"], m["angry"]]) for m in (SLOW, FAST))
    found = calibrate(words, slow, fast, ["happy"], Wheels(), SETS)
    assert list(found.signals.values()) == defined(0.6, 0.5, 0.5, 1.0)
    assert [entry["counted"] for entry in found.words_json()] == [False, True, False, True, True]
    assert found.margins == pytest.approx(calibration(["happy", "sad", "angry"], ["happy"]).margins)
    assert found.margins["margin_slow"] == pytest.approx(calibration(["happy"], ["happy"]).margins["margin_slow"])


def test_the_margin_is_read_at_the_first_word_that_the_wheel_maps():
    """Nobody maps table, and w2 does not map scared: w1's margin is scared's, w2's is happy's."""
    rows = {
        mode: {**words, "scared": [-1.0] * 3 + [-0.5] + [-1.0] * 4} for mode, words in (("slow", SLOW), ("fast", FAST))
    }
    margins = calibration(["table", "scared", "happy"], ["happy"], **rows).margins
    assert margins["margin_slow"] == pytest.approx(((-1.0 - (-0.5 - 1.0 - 1.0) / 3) + 1.0) / 2)
    assert all(map(math.isnan, calibration(["table"], ["happy"]).margins.values()))


def test_a_reading_names_its_word():
    words = [WordConfidence(word, {"slow": SLOW[word], "fast": FAST[word]}) for word in ("happy", "sad")]
    assert [(one.word, one.wheel, one.correct) for one in read(words, ["happy"], Wheels(), NAMES)] == [
        ("happy", "w1", True),
        ("sad", "w1", False),
        ("happy", "w2", True),
        ("sad", "w2", False),
    ]


def test_rows_are_left_as_they_were():
    slow, fast = torch.full((1, 8), -50.0), torch.full((1, 8), -50.0)
    sets = category_sets([[]] * 7)
    calibrate([AlignedWord("happy", 0, 0, 0)], slow, fast, ["happy"], Wheels(), sets)
    assert (slow == -50.0).all()
    assert (fast == -50.0).all()


def test_words_survive_json():
    sets = category_sets([[0], [], *TOKENS[2:]])
    found = calibration(["happy", "sad", "happy"], ["happy"], sets=sets).words_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    happy, _, again = found
    assert happy["word"] == "happy"
    assert happy["slow"]["w1"] == pytest.approx({"joy": -0.5, "low": None, "mad": -3.0, "fear": -4.0, "surprise": -9.0})
    assert happy["fast"]["w2"] == pytest.approx({"good": -0.6, "bad": -0.6})
    assert (happy["slow_word"], happy["fast_word"]) == (-1.0, -1.5)
    nothing = {"slow": None, "fast": None, "slow_word": None, "fast_word": None}
    assert happy["covered"] == {"w1": True, "w2": True}
    assert again == {"word": "happy", "counted": False, "covered": {}, **nothing}


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
    covered = {"confidence/coverage": 1.0, "confidence/coverage_first": 1.0}
    assert metrics == {f"confidence/{name}/undefined": 1.0 for name in SIGNALS} | covered
    assert batch_metrics([calibration([], ["happy"])]) == {f"confidence/{name}/undefined": 1.0 for name in SIGNALS}
    assert batch_metrics([]) == {f"confidence/{name}/undefined": 0.0 for name in SIGNALS}


def test_the_mass_of_a_words_token_alone_is_the_words_own_log_prob():
    """With one token a category, the one the word begins with, category and word level are the same."""
    tokens = {"joy": 11, "low": 5, "mad": 40, "fear": 2, "surprise": 3, "good": 11, "bad": 5}
    sets = category_sets([[tokens[category]] for _, category in NAMES])
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([tokens["joy"], tokens["low"]])
    rows = [
        set_log_probs(torch.randn(2, 50, generator=generator) * 5, labels, TokenSets.from_lists(sets.token_ids))
        for _ in range(2)
    ]
    for row, column in ((0, 0), (0, 5), (1, 1), (1, 6)):
        assert all(torch.equal(values[row, column], values[row, -1]) for values in rows)
    words = [AlignedWord("happy", 0, 0, 11), AlignedWord("sad", 1, 1, 5)]
    pos, neg, pos_word, neg_word = calibrate(words, *rows, ["happy"], Wheels(), sets, floor=-100.0).signals.values()
    assert (pos, neg) == pytest.approx((pos_word, neg_word))
    assert pos != 0 != neg


def test_the_words_own_token_counts_in_full_for_its_own_category():
    """By hand: of the token's probability e^-1 the set of joy has a quarter, so three quarters are added; that of good
    does not have it, so all of it is added. Other categories stay as they are, and so does a second word."""
    row = [-2.0, -3.0, -4.0, -5.0, -6.0, -2.5, -3.5, -1.0]
    sets = CategorySets(
        NAMES, [[7], [1], [2], [3], [4], [5], [1, 2]], [[0.25], *([1.0] * n for n in (1, 1, 1, 1, 1, 2))]
    )
    words = [AlignedWord("happy", 0, 0, 7), AlignedWord("sad", 1, 1, 1)]
    rows = torch.tensor([row, row])
    found = calibrate(words, rows, rows, ["happy"], Wheels(), sets).words_json()
    joy, good = math.log(math.exp(-2) + 0.75 * math.exp(-1)), math.log(math.exp(-2.5) + math.exp(-1))
    assert found[0]["slow"]["w1"] == pytest.approx({"joy": joy, "low": -3, "mad": -4, "fear": -5, "surprise": -6})
    assert found[0]["fast"]["w2"] == pytest.approx({"good": good, "bad": -3.5})
    assert found[1]["slow"]["w1"]["joy"] == -2.0
    assert [word["covered"] for word in found] == [{"w1": True, "w2": False}, {"w1": True, "w2": True}]
    # It is added to the mass as it was read: the floor is for their sum.
    rows = torch.tensor([[-25.0] * 7 + [-19.0]])
    happy = calibrate(words[:1], rows, rows, ["happy"], Wheels(), sets).words_json()[0]
    assert happy["slow"]["w2"] == pytest.approx({"good": math.log(math.exp(-25) + math.exp(-19)), "bad": -20.0})


def test_coverage_counts_readings_and_the_first_of_each_wheel():
    sets = category_sets([[], [1], [2], [3], [4], [0], []])  # happy's token is in good's set only, sad's in low's
    batch = [calibration(["happy", "sad"], ["happy"], sets=sets), calibration(["table"], ["happy"], sets=sets)]
    assert batch[0].coverage == Coverage(covered=2, readings=4, first_covered=1, first_readings=2)
    metrics = batch_metrics(batch)
    assert (metrics["confidence/coverage"], metrics["confidence/coverage_first"]) == (0.5, 0.5)
    firsts = category_sets([[0], [], [2], [3], [4], [0], []])  # happy's token is in its sets, sad's in none
    assert calibration(["happy", "sad"], ["happy"], sets=firsts).coverage == Coverage(2, 4, 2, 2)
    assert calibration(["sad", "happy"], ["happy"], sets=firsts).coverage == Coverage(2, 4, 0, 2)


@settings(max_examples=60)
@given(st.data())
def test_a_words_own_category_is_at_least_as_likely_and_rises_with_it(data):
    """Whatever the sets hold: conf(c(e)) ≥ log p(e), and a higher logit of the word alone never lowers conf(c(e))."""
    size = 12
    tokens = st.lists(st.integers(0, size - 1), max_size=4, unique=True)
    token_ids = data.draw(st.lists(tokens, min_size=7, max_size=7))
    shares = [[data.draw(st.floats(0.01, 1.0)) for _ in ids] for ids in token_ids]
    logits = torch.tensor(data.draw(st.lists(st.floats(-6, 6), min_size=size, max_size=size)))[None]
    token = data.draw(st.integers(0, size - 1))
    sets, before = CategorySets(NAMES, token_ids, shares), None
    for rise in (0.0, 0.5, 2.0):
        raised = logits.clone()
        raised[0, token] += rise
        rows = set_log_probs(raised, torch.tensor([token]), TokenSets.from_lists(token_ids, shares))
        word = calibrate([AlignedWord("happy", 0, 0, token)], rows, rows, [], Wheels(), sets).words_json()[0]
        own = [word["slow"]["w1"]["joy"], word["slow"]["w2"]["good"]]
        assert min(own) >= word["slow_word"] - 1e-5
        assert before is None or all(after >= value - 1e-5 for after, value in zip(own, before, strict=True))
        before = own


@st.composite
def responses(draw, wheels):
    """Words, labels and rows above the floor on the built-in wheels."""
    vocabulary = st.sampled_from(["happy", "Joyful", "sad", "angry", "worried", "scared", "calm", "proud", "table"])
    answer = draw(st.lists(vocabulary, min_size=1, max_size=6))
    names = names_of(wheels)
    sets = category_sets([[0] if draw(st.integers(0, 9)) else [] for _ in names], names)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    slow, fast = (-9 * torch.rand(len(answer), len(names) + 1, generator=generator).double() for _ in range(2))
    words = [AlignedWord(word, at, at, draw(st.integers(0, 1))) for at, word in enumerate(answer)]
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
