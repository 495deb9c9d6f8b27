"""What MER-Micro's clips say: plans, truth, reasons and the figures on the card."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.micro import card
from data_prep.micro import plan as plan_module
from data_prep.micro.cues import CHANNELS, CUE_STATES, EMOTION_OF, EMOTIONS, NEUTRAL, SENTENCES, SYNONYMS
from data_prep.micro.plan import SCENARIOS, cue_distribution, emotions_of
from data_prep.micro.reasons import GENERATORS, Annotator, conclude, describe, write_reason
from data_prep.micro.sizes import SIZES

PERFECT, IMPERFECT = GENERATORS[1]["perfect"], GENERATORS[2]["imperfect"]
DOCS = Path(__file__).parents[2] / "docs" / "MER-Micro.md"


def draw_plan(seed, split, index, annotator=PERFECT):
    return plan_module.draw_plan(seed, split, index, annotator)


plans = st.builds(draw_plan, st.integers(0, 99), st.sampled_from(["train", "test", "base"]), st.integers(0, 9999))


@pytest.fixture(scope="module")
def default_plans():
    return {split: [draw_plan(0, split, i) for i in range(n)] for split, n in (("train", 1600), ("test", 160))}


@given(plans)
def test_truth_is_the_set_of_emotions_of_the_cues(plan):
    assert set(plan.emotions) == {state for state in plan.cues.values() if state != NEUTRAL}
    assert {EMOTION_OF[label] for label in plan.labels} == set(plan.emotions)
    assert 1 <= len(plan.labels) == len(set(plan.labels)) <= 3


@given(plans)
def test_the_scenario_is_the_pattern_of_the_cues(plan):
    letters = "".join(sorted(plan.scenario.replace("-", "")))
    assert len(plan.emotions) == len(set(letters))
    assert sum(state == NEUTRAL for state in plan.cues.values()) == plan.scenario.count("-")
    assert plan.conflicting == (len(plan.emotions) > 1)


@given(plans)
def test_the_reason_names_every_cue_and_every_label_and_nothing_else(plan):
    said = {word.strip(".,") for word in plan.reason.split()}
    told, conclusion = plan.reason.split("So the feeling is ")
    shown = {word.strip(".,") for word in told.split()}
    assert set(plan.labels) == {word.strip(".,") for word in conclusion.split()} - {"and"}
    assert shown & set(EMOTIONS) == set(plan.emotions)
    assert said & set(EMOTION_OF) == set(plan.emotions) | set(plan.labels)
    assert 15 <= len(plan.reason.split()) <= 33
    assert ("differ" in plan.reason) == plan.conflicting


@given(plans)
def test_the_subtitle_is_a_sentence_of_the_words_state(plan):
    text = plan.subtitle.lower().rstrip(".")
    assert any(text.endswith(sentence.lower()) for sentence in SENTENCES[plan.cues["words"]])


def test_a_reason_says_the_cues_and_its_conclusion():
    cues = {"face": "angry", "voice": NEUTRAL, "words": "happy"}
    reason = write_reason(cues, random.Random(3), conclude(("angry", "happy"), ("furious", "joyful")))
    assert "looks angry" in reason
    assert "sounds flat" in reason
    assert "happy." in reason
    assert reason.endswith("The cues differ. So the feeling is furious and joyful.")
    assert write_reason(cues, random.Random(3)) == reason.partition(" The cues differ")[0]
    assert conclude(("angry",), ("angry", "annoyed", "furious")) == "So the feeling is angry, annoyed and furious."


@given(st.integers(0, 99), st.sampled_from(["train", "test", "base"]), st.integers(0, 9999))
def test_generators_differ_by_the_reason_alone(seed, split, index):
    first, second = (draw_plan(seed, split, index, annotator) for annotator in (PERFECT, IMPERFECT))
    for name in ("name", "scenario", "cues", "subtitle", "labels", "look_seed"):
        assert getattr(first, name) == getattr(second, name)
    clean = draw_plan(seed, split, index, GENERATORS[2]["perfect"])
    assert first.reason.startswith(clean.reason)
    assert clean.described == first.cues
    if second.described == second.cues:
        assert second.reason == clean.reason, "the wording is the same where nothing was missed"
    assert "feeling" not in second.reason
    assert "differ" not in second.reason


def test_how_often_the_annotator_errs():
    """What the card says: of the cues with an emotion; a neutral cue is always described as such."""
    drawn = [draw_plan(0, "train", index, IMPERFECT) for index in range(3000)]
    pairs = [(plan.cues[c], plan.described[c]) for plan in drawn for c in CHANNELS]
    assert all(told == NEUTRAL for state, told in pairs if state == NEUTRAL)
    carrying = [(state, told) for state, told in pairs if state != NEUTRAL]
    missed = sum(told == NEUTRAL for _, told in carrying) / len(carrying)
    misread = sum(told not in (state, NEUTRAL) for state, told in carrying) / len(carrying)
    assert missed == pytest.approx(IMPERFECT.missed, abs=0.015)
    assert misread == pytest.approx(IMPERFECT.misread, abs=0.01)
    assert card.measure({"test": drawn})["cues_described"] == {
        "as they are": pytest.approx(1 - missed - misread, abs=1e-3),
        "as neutral": pytest.approx(missed, abs=1e-3),
        "as another emotion": pytest.approx(misread, abs=1e-3),
    }


def test_certain_annotators():
    cues = {"face": "angry", "voice": NEUTRAL, "words": "happy"}
    assert describe(cues, Annotator(missed=1.0), random.Random(0)) == dict.fromkeys(CHANNELS, NEUTRAL)
    read = [describe(cues, Annotator(misread=1.0), random.Random(seed)) for seed in range(200)]
    assert {told["face"] for told in read} == set(EMOTIONS) - {"angry"}
    assert {told["voice"] for told in read} == {NEUTRAL}


def test_a_plan_depends_on_seed_split_and_index_alone():
    assert draw_plan(1, "train", 5) == draw_plan(1, "train", 5)
    assert draw_plan(1, "train", 5).look_seed != draw_plan(1, "test", 5).look_seed
    assert [draw_plan(0, "train", i) for i in range(9)] != [draw_plan(1, "train", i) for i in range(9)]


def test_drawing_leaves_the_global_generator_alone():
    random.seed(1)
    before = random.getstate()
    draw_plan(0, "train", 0)
    assert random.getstate() == before


def test_vocabulary_is_consistent():
    assert set(SYNONYMS) == set(EMOTIONS)
    assert all(emotion == words[0] for emotion, words in SYNONYMS.items())
    assert len(EMOTION_OF) == sum(len(words) for words in SYNONYMS.values()), "a word stands under two emotions"
    assert set(SENTENCES) == set(CUE_STATES)
    every = [sentence for sentences in SENTENCES.values() for sentence in sentences]
    assert len(every) == len(set(every)), "a sentence stands under two states"
    spoken = {word.lower() for sentence in every for word in sentence.split()}
    assert not spoken & set(EMOTION_OF), "a sentence gives a label away"


def test_cue_distribution_is_one():
    chances = [chance for _, chance in cue_distribution()]
    assert sum(chances) == pytest.approx(1)
    assert sum(SCENARIOS.values()) == pytest.approx(1)
    assert all(emotions_of(cues) for cues, _ in cue_distribution())


def test_no_single_cue_is_enough(default_plans):
    best = card.measure(default_plans)["best_f1_knowing"]
    alone = [best[channel] for channel in CHANNELS]
    pairs = [value for key, value in best.items() if key.count("+") == 1]
    assert best["nothing"] < min(alone)
    assert max(alone) < 0.68 < min(pairs)
    assert max(pairs) < 0.88
    assert best["face+voice+words"] == 1


def test_no_emotion_and_no_channel_is_favoured(default_plans):
    every = [plan for each in default_plans.values() for plan in each]
    for emotion in EMOTIONS:
        assert 0.24 < sum(emotion in plan.emotions for plan in every) / len(every) < 0.32
    for channel in CHANNELS:
        assert 0.28 < sum(plan.cues[channel] == NEUTRAL for plan in every) / len(every) < 0.36


def test_the_documented_figures_are_those_of_the_default_corpus():
    documented = DOCS.read_text(encoding="utf-8")
    size = SIZES[2]["demo"]
    sizes = {"train": size.clips, "test": size.test_clips, "base": size.base_clips}
    plans = {split: [draw_plan(0, split, i, IMPERFECT) for i in range(n)] for split, n in sizes.items()}
    for row in card.figure_rows(card.measure(plans)):
        assert row in documented


def test_f1():
    assert card.f1(("a",), ("a", "b")) == pytest.approx(2 / 3)
    assert card.f1(("a",), ("b",)) == 0
