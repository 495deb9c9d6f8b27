"""Scores of whole sets of predictions: EW, HIT, WAF, and their intervals."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipe.mer_r1.method.metrics import ew_gaps, ew_scores, hit_rate, sample_scores, waf, wheel_scores
from recipe.mer_r1.method.wheel import EmotionWheels

BUILTIN = EmotionWheels.builtin()
NAN_RULES = EmotionWheels.builtin(rules="mer2025")
WORDS = ["happy", "joyful", "angry", "annoyed", "sad", "scared", "excited", "disgusted", "neutral", "zzz"]

samples = st.lists(st.lists(st.sampled_from(WORDS), max_size=4), max_size=8)


@st.composite
def labelled(draw):
    """Gold and predictions of the same samples."""
    gold = draw(samples)
    pred = draw(st.lists(st.lists(st.sampled_from(WORDS), max_size=4), min_size=len(gold), max_size=len(gold)))
    return {f"s{i}": words for i, words in enumerate(gold)}, {f"s{i}": words for i, words in enumerate(pred)}


def same(found, expected):
    return math.isnan(found) if expected is None or math.isnan(expected) else abs(found - expected) < 1e-9


# --- against the official scorer's own results


def fixture_cases(shared, official):
    return json.loads((shared / "fixtures" / f"wheel_cases_{official.rules}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("level", [1, 2])
def test_the_official_cases_where_everything_is_defined(shared, official, level):
    cases = [case for case in fixture_cases(shared, official) if None not in case[f"ew_level{level}"]]
    assert len(cases) > 25
    for case in cases:
        found = ew_scores(case["gt"], case["pred"], official, level)
        assert [found[key] for key in "FPR"] == pytest.approx(case[f"ew_level{level}"], abs=1e-9)


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("revision", ["mer2025", "mer2026"])
def test_all_official_cases_where_undefined_is_nan(shared, revision, level):
    """The fixtures of both revisions write undefined scores as null, as the rules of mer2025 have it."""
    wheels = EmotionWheels.load(shared / "emotion_wheel" / revision, rules="mer2025")
    for case in json.loads((shared / "fixtures" / f"wheel_cases_{revision}.json").read_text(encoding="utf-8")):
        found = ew_scores(case["gt"], case["pred"], wheels, level)
        assert all(same(found[key], value) for key, value in zip("FPR", case[f"ew_level{level}"], strict=True))


@pytest.mark.parametrize("level", [1, 2])
def test_the_undefined_official_cases_where_undefined_is_0(shared, level):
    nan, zero = (EmotionWheels.load(shared / "emotion_wheel" / "mer2026", rules) for rules in ("mer2025", "mer2026"))
    undefined = 0
    for case in json.loads((shared / "fixtures" / "wheel_cases_mer2026.json").read_text(encoding="utf-8")):
        with_nan, with_zero = (ew_scores(case["gt"], case["pred"], wheels, level) for wheels in (nan, zero))
        for key, value in zip("FPR", case[f"ew_level{level}"], strict=True):
            per_wheel = [row[key] for row in with_nan["per_wheel"].values()]
            assert with_zero[key] == pytest.approx(sum(x for x in per_wheel if x == x) / 5, abs=1e-12)
            undefined += value is None
    assert undefined > 2


# --- EW


def plain_ew(gold, pred, wheels, level=1):
    """The rules written down with sets, NaN where undefined."""
    rows = []
    for wheel in wheels.ids:
        p, r = [], []
        for name, words in gold.items():
            truth, guess = wheels.categories(words, wheel, level), wheels.categories(pred[name], wheel, level)
            if truth:
                p.append(len(truth & guess) / len(guess) if guess else 0.0)
                r.append(len(truth & guess) / len(truth))
        p, r = (sum(values) / len(values) if values else math.nan for values in (p, r))
        rows.append((2 * p * r / (p + r) if p + r else math.nan, p, r))
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


@given(labelled(), st.sampled_from([1, 2]))
def test_ew_equals_its_plain_statement(data, level):
    found = ew_scores(*data, NAN_RULES, level)
    assert all(same(found[key], value) for key, value in zip("FPR", plain_ew(*data, NAN_RULES, level), strict=True))


@given(labelled())
def test_the_rules_differ_only_where_scores_are_undefined(data):
    with_nan, with_zero = ew_scores(*data, NAN_RULES), ew_scores(*data, BUILTIN)
    for wheel in BUILTIN.ids:
        for key in "FPR":
            value = with_nan["per_wheel"][wheel][key]
            assert with_zero["per_wheel"][wheel][key] == (0.0 if math.isnan(value) else value)


@given(labelled(), st.randoms())
def test_order_duplicates_case_and_blanks_do_not_matter(data, random):
    gold, pred = data
    names = list(gold)
    random.shuffle(names)
    shuffled = {name: [f" {word.title()} " for word in reversed(pred[name])] * 2 for name in names}
    one, two = ew_scores(gold, pred, BUILTIN), ew_scores({name: gold[name] for name in names}, shuffled, BUILTIN)
    assert [one[key] for key in "FPR"] == pytest.approx([two[key] for key in "FPR"], abs=1e-12)


def test_mean_f_is_not_the_harmonic_mean_of_mean_p_and_r():
    gold = {"a": ["disgusted", "happy"], "b": ["angry"]}
    pred = {"a": ["happy"], "b": ["disgusted"]}
    found = ew_scores(gold, pred, BUILTIN)
    assert [row["R"] for row in found["per_wheel"].values()] == [0.25, 0.25, 0.5, 0.25, 0.5]
    assert [row["P"] for row in found["per_wheel"].values()] == [0.5] * 5
    assert found["F"] == pytest.approx((3 * 1 / 3 + 2 * 0.5) / 5)
    assert found["F"] != pytest.approx(2 * found["P"] * found["R"] / (found["P"] + found["R"]))


def test_the_result_says_what_it_is():
    found = ew_scores({"a": "[happy, sad]"}, {"a": "joyful"}, BUILTIN)
    assert (found["task"], found["level"], found["n"], found["rules"]) == ("ew", 1, 1, "mer2026")
    assert found["wheels"] == BUILTIN.identity
    assert found["per_wheel"]["w1"] == {"F": 2 / 3, "P": 1.0, "R": 0.5, "n": 1}
    assert "ci95" not in found


@pytest.mark.parametrize(("wheels", "empty"), [(NAN_RULES, math.nan), (BUILTIN, 0.0)])
def test_no_sample_and_no_scored_sample(wheels, empty):
    for gold, pred in [({}, {}), ({"a": ["neutral"]}, {"a": ["happy"]})]:
        found = ew_scores(gold, pred, wheels, bootstrap=10)
        assert all(same(found[key], empty) for key in "FPR")
        assert same(hit_rate(gold, pred, wheels)["hit"], empty)


@pytest.mark.parametrize(("wheels", "empty"), [(NAN_RULES, math.nan), (BUILTIN, 0.0)])
def test_nothing_right(wheels, empty):
    found = ew_scores({"a": ["happy"]}, {"a": []}, wheels)
    assert (found["P"], found["R"]) == (0.0, 0.0)
    assert same(found["F"], empty)


def test_names_that_differ_are_counted_and_named():
    gold, pred = {name: ["sad"] for name in "abcdefg"}, {"g": ["sad"], "z": ["sad"]}
    expected = r"without a prediction: 6 \(a, b, c, d, e, …\); samples without a gold label: 1 \(z\)"
    for score in (lambda: ew_scores(gold, pred, BUILTIN), lambda: hit_rate(gold, pred, BUILTIN)):
        with pytest.raises(ValueError, match=expected):
            score()
    found = ew_scores(gold, pred, BUILTIN, missing="zero")
    assert (found["n"], found["R"]) == (7, pytest.approx(1 / 7))


@pytest.mark.parametrize(
    ("pred", "message"),
    [
        (
            {"a": "sad", "b": "sad", "z": "sad"},
            "samples without a gold label: 1 (z); missing=zero ignores samples without a gold label",
        ),
        (
            {"a": "sad"},
            "samples without a prediction: 1 (b); missing=zero counts samples without a prediction as wrong",
        ),
    ],
)
def test_the_way_out_is_that_of_what_is_missing(pred, message):
    with pytest.raises(ValueError, match="missing=zero") as caught:
        ew_scores({"a": "sad", "b": "sad"}, pred, BUILTIN)
    assert str(caught.value) == message


def test_five_names_are_all_named():
    with pytest.raises(ValueError, match=r"samples without a prediction: 5 \(a, b, c, d, e\);"):
        ew_scores(dict.fromkeys("abcde", "sad"), {}, BUILTIN)


def test_unknown_treatment_of_missing_names():
    with pytest.raises(ValueError, match="error or zero"):
        ew_scores({}, {}, BUILTIN, missing="skip")


def test_gaps_are_the_scores_of_the_other_less_those_of_the_first():
    """By hand, the same on every wheel: P and R of the first are 1/2; R of the other is 1 and P is (1/2 + 1)/2."""
    gold = {"a": ["happy"], "b": ["sad"]}
    first, other = {"a": ["happy"], "b": ["angry"]}, {"a": ["happy", "angry"], "b": ["sad"]}
    found = ew_gaps(gold, first, other, BUILTIN)
    assert found == pytest.approx({"F": 2 * 0.75 / 1.75 - 0.5, "P": 0.25, "R": 0.5})
    back = ew_gaps(gold, other, first, BUILTIN)
    assert back == pytest.approx({key: -value for key, value in found.items()})


def test_gaps_are_of_level_1():
    """Happy and joyful are one category of level 1."""
    gold = {"a": ["happy"]}
    assert ew_gaps(gold, {"a": ["sad"]}, {"a": ["joyful"]}, BUILTIN) == dict.fromkeys("FPR", 1.0)


def test_both_answers_of_a_gap_are_resampled_together():
    """Each clip has the same gap, so every draw has it. The interval follows the seed where the clips differ."""
    gold = {str(index): ["happy"] for index in range(9)}
    right, wrong = gold, {name: ["sad"] for name in gold}
    assert ew_gaps(gold, wrong, right, BUILTIN, bootstrap=20)["ci95"] == {key: [1.0, 1.0] for key in "FPR"}
    mixed = {name: ["happy"] if int(name) % 2 else ["sad"] for name in gold}
    draw = [ew_gaps(gold, mixed, right, BUILTIN, bootstrap=7, **seed) for seed in ({}, {"seed": 0}, {"seed": 1})]
    assert draw[0] == draw[1]
    assert draw[1]["ci95"] != draw[2]["ci95"]


def test_gaps_need_both_answers_of_every_clip():
    rows = {"a": ["happy"]}
    for answers in ((rows, {}), ({}, rows)):
        with pytest.raises(ValueError, match="without a prediction"):
            ew_gaps(rows, *answers, BUILTIN)


# --- HIT


@given(labelled())
def test_hit_is_ew_recall_with_one_label(data):
    gold = {name: words[:1] for name, words in data[0].items()}
    found, recall = hit_rate(gold, data[1], NAN_RULES), ew_scores(gold, data[1], NAN_RULES)
    assert same(found["hit"], recall["R"])
    for wheel in NAN_RULES.ids:
        assert same(found["per_wheel"][wheel]["hit"], recall["per_wheel"][wheel]["R"])


def test_hit_leaves_neutral_out():
    gold = {"a": "neutral", "b": "happy", "c": "worried"}
    found = hit_rate(gold, {"a": ["neutral"], "b": ["joyful", "sad"], "c": ["sad"]}, BUILTIN)
    assert (found["hit"], found["n"], set(found["n_scored_per_wheel"].values())) == (0.5, 3, {2})
    assert (found["task"], found["level"]) == ("hit", 1)
    assert "ci95" not in found


def test_hit_counts_a_missing_prediction_as_wrong():
    assert hit_rate({"a": "sad", "b": "sad"}, {"a": ["sad"], "z": ["sad"]}, BUILTIN, missing="zero")["hit"] == 0.5


def test_hit_refuses_several_labels():
    with pytest.raises(ValueError, match=r"'a' has \['sad', 'angry'\]"):
        hit_rate({"a": ["sad", "angry"]}, {"a": ["sad"]}, BUILTIN)


# --- WAF


@given(
    st.lists(
        st.tuples(
            st.sampled_from([-3.0, -0.2, 0.0, 0.4, 1, 3]), st.sampled_from(["positive", "negative", "neutral", "mixed"])
        ),
        min_size=1,
    ).filter(lambda rows: any(value for value, _ in rows))
)
def test_waf_equals_scikit_learn(rows):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the reference for WAF")
    kept = [(value > 0, word == "positive") for value, word in rows if value != 0]
    expected = metrics.f1_score(*map(list, zip(*kept, strict=True)), average="weighted")
    found = waf({str(i): row[0] for i, row in enumerate(rows)}, {str(i): row[1] for i, row in enumerate(rows)})
    assert found["waf"] == pytest.approx(expected, abs=1e-12)
    assert found["n_scored"] == len(kept)


def test_waf_counts_other_words_and_reads_lists_of_one():
    gold = {"a": 1.0, "b": -1.0, "c": 2.0, "d": 0.0}
    found = waf(gold, {"a": "[positive]", "b": ["negative"], "c": "mixed", "d": "what"})
    assert (found["n"], found["n_scored"], found["n_other"]) == (4, 3, 1)
    assert found["task"] == "waf"
    assert "ci95" not in found


@pytest.mark.parametrize("text", ["positive, negative", "", "[]"])
def test_waf_takes_several_words_and_none_as_not_positive(text):
    found = waf({"a": 1.0, "b": -1.0}, {"a": text, "b": text})
    assert (found["n_other"], found["waf"]) == (2, pytest.approx((0 + 2 / 3) / 2))


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_waf_counts_a_missing_prediction_as_wrong_whatever_its_class(value):
    """An empty prediction would be right by chance where the truth is negative."""
    alone = waf({"a": value}, {}, missing="zero")
    assert (alone["waf"], alone["n_scored"], alone["n_other"]) == (0.0, 1, 0)
    gold = {"a": 1.0, "b": -1.0, "c": value, "z": 0.0}
    missing = waf(gold, {"a": "positive", "b": "negative", "x": "positive"}, missing="zero")
    wrong = waf(gold, {"a": "positive", "b": "negative", "c": "negative" if value > 0 else "positive", "z": "neutral"})
    assert missing == wrong


def test_waf_names_what_is_missing_unless_told():
    with pytest.raises(ValueError, match=r"samples without a prediction: 1 \(b\)"):
        waf({"a": 1.0, "b": -1.0}, {"a": "positive"})


def test_waf_without_a_scored_sample_is_undefined():
    assert math.isnan(waf({"a": 0.0}, {"a": "positive"}, bootstrap=5)["waf"])


@pytest.mark.parametrize("value", [math.nan, "1", None])
def test_waf_refuses_what_is_no_number(value):
    with pytest.raises(ValueError, match="true score of 'a'"):
        waf({"a": value}, {"a": "positive"})


# --- intervals


def test_intervals_hold_the_score_and_repeat():
    random = np.random.default_rng(1)
    gold = {str(i): list(random.choice(WORDS[:8], 2)) for i in range(200)}
    pred = {str(i): list(random.choice(WORDS, 2)) for i in range(200)}
    found = ew_scores(gold, pred, BUILTIN, bootstrap=300)
    for key in "FPR":
        low, high = found["ci95"][key]
        assert low < found[key] < high
        assert 0.02 < high - low < 0.3
    assert found == ew_scores(gold, pred, BUILTIN, bootstrap=300)
    assert found["ci95"] != ew_scores(gold, pred, BUILTIN, bootstrap=300, seed=1)["ci95"]


def test_intervals_of_a_share_are_those_of_the_binomial():
    gold = {str(i): "happy" for i in range(400)}
    pred = {str(i): ["happy"] if i % 2 else ["sad"] for i in range(400)}
    low, high = hit_rate(gold, pred, BUILTIN, bootstrap=2000)["ci95"]["hit"]
    assert [low, high] == pytest.approx([0.5 - 1.96 * 0.025, 0.5 + 1.96 * 0.025], abs=0.01)


def test_intervals_of_waf():
    gold = {str(i): 1.0 if i % 3 else -1.0 for i in range(100)}
    found = waf(gold, {str(i): "positive" if i % 2 else "negative" for i in range(100)}, bootstrap=200)
    assert found["ci95"]["waf"][0] < found["waf"] < found["ci95"]["waf"][1]


def test_hit_and_waf_follow_the_seed():
    gold, score = {str(i): "happy" for i in range(9)}, {str(i): (-1.0) ** i for i in range(9)}
    words, sentiments = (
        {name: one if int(name) % 3 else other for name in gold}
        for one, other in (("happy", "sad"), ("positive", "negative"))
    )
    for draw in (
        lambda **seed: hit_rate(gold, words, BUILTIN, bootstrap=7, **seed)["ci95"],
        lambda **seed: waf(score, sentiments, bootstrap=7, **seed)["ci95"],
    ):
        assert draw() == draw(seed=0) != draw(seed=1)


def test_a_negative_number_of_draws_is_refused():
    with pytest.raises(ValueError, match="bootstrap=-1"):
        ew_scores({"a": ["sad"]}, {"a": ["sad"]}, BUILTIN, bootstrap=-1)


def test_per_sample_rewards_are_at_hand_here():
    assert sample_scores(["sad"], ["sad"], BUILTIN).f1 == 1.0
    assert wheel_scores(["sad"], ["sad"], BUILTIN)["w1"].recall == 1.0


# --- several predictions per sample


@given(labelled(), labelled())
def test_recall_and_precision_of_several_predictions_are_their_means(one, other):
    gold, first = one
    second = {name: other[1].get(name, []) for name in gold}
    several = ew_scores(gold, [first, second], BUILTIN)
    single = [ew_scores(gold, pred, BUILTIN) for pred in (first, second)]
    for wheel in BUILTIN.ids:
        p, r = (sum(found["per_wheel"][wheel][key] for found in single) / 2 for key in "PR")
        row = several["per_wheel"][wheel]
        assert [row["P"], row["R"]] == pytest.approx([p, r])
        assert row["F"] == pytest.approx(2 * p * r / (p + r) if p + r else 0)
    assert several["n_scored_per_wheel"] == single[0]["n_scored_per_wheel"]


def test_several_predictions_are_resampled_with_their_sample():
    gold = {f"s{i}": ["happy"] for i in range(8)}
    pred = {f"s{i}": ["happy" if i % 2 else "sad"] for i in range(8)}
    one, three = (ew_scores(gold, given, BUILTIN, bootstrap=200) for given in (pred, [pred, pred, pred]))
    assert three["ci95"] == one["ci95"]
    assert hit_rate(gold, [pred, dict.fromkeys(gold, "happy")], BUILTIN)["hit"] == pytest.approx(0.75)


def test_every_set_of_predictions_has_all_samples():
    gold = {"a": ["happy"], "b": ["sad"]}
    with pytest.raises(ValueError, match=r"samples without a prediction: 1 \(b\)"):
        ew_scores(gold, [gold, {"a": ["happy"]}], BUILTIN)
    with pytest.raises(ValueError, match="no predictions"):
        ew_scores(gold, [], BUILTIN)
