"""Mapping words to categories: what holds for every set of wheels, and the embedded default."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipe.mer_r1.method.wheel import EmotionWheels, WheelError, load_wheels
from recipe.mer_r1.method.wheels.builtin import DATA, FROZEN
from recipe.mer_r1.method.wheels.table import Candidate, Wheel, WheelTable

BUILTIN = EmotionWheels.builtin()
CORPUS_WORDS = [
    "happy",
    "joyful",
    "excited",
    "delighted",
    "cheerful",
    "amused",
    "angry",
    "annoyed",
    "furious",
    "irritated",
    "frustrated",
    "sad",
    "lonely",
    "disappointed",
    "hurt",
    "scared",
    "afraid",
    "anxious",
    "worried",
    "nervous",
    "terrified",
    "fearful",
    "surprised",
    "amazed",
    "astonished",
    "shocked",
    "startled",
    "disgusted",
    "revolted",
    "repulsed",
    "appalled",
    "disapproving",
]

words = st.lists(st.sampled_from([*CORPUS_WORDS, "worries", "neutral", "happy.", "xyzzy", "let down", ""]), max_size=6)


def small_table(candidates):
    """One wheel with two categories, to test the mapping without any file."""
    rows = [("bad", "upset", "hurt"), ("bad", "cross", "hurt"), ("good", "calm", "hurt"), ("good", "bliss", "calm")]
    found = {word: [Candidate(raw, "form") for raw in listed] for word, listed in candidates.items()}
    return WheelTable(
        "small", "1", "0" * 64, (Wheel.from_rows(rows, "small"),), found, lambda word: found.get(word, [])
    )


def test_a_folder_is_read_and_without_one_it_is_the_embedded_default(tmp_path):
    assert load_wheels(None).identity == BUILTIN.identity
    with pytest.raises(WheelError, match=str(tmp_path)):
        load_wheels(tmp_path)


def test_the_last_row_counts_and_level_2_of_a_category_is_its_first_child():
    wheel = Wheel.from_rows([("bad", "upset", "hurt"), ("bad", "cross", "hurt"), ("good", "calm", "hurt")], "w")
    assert wheel.level1["hurt"] == "good"
    assert wheel.level2 == {
        "bad": "cross",
        "upset": "upset",
        "hurt": "calm",
        "cross": "cross",
        "good": "calm",
        "calm": "calm",
    }


def test_the_first_candidate_the_wheel_knows_counts():
    wheels = EmotionWheels(small_table({"a": ["x", "upset", "calm"], "b": ["x"]}), "mer2025")
    assert wheels.category("a", 1) == "bad"
    assert wheels.category("A ", "w1", level=2) == "upset"
    assert wheels.category("b", 1) is None
    assert wheels.categories(["a", "b", "c"], 1) == {"bad"}


def test_explain_names_form_candidate_and_category():
    wheels = EmotionWheels(small_table({"a": ["x", "upset"], "b": ["x"]}), "mer2025")
    explanation = wheels.explain(" A")
    assert (explanation.word, explanation.known, explanation.forms) == ("a", True, ["form"])
    assert explanation.candidates == ["x", "upset"]
    choice = explanation.wheels["w1"]
    assert (choice.form, choice.candidate, choice.level1, choice.level2) == ("form", "upset", "bad", "upset")
    assert "upset (form form) → bad / upset" in str(explanation)
    assert "no candidate on this wheel" in str(wheels.explain("b"))
    assert str(wheels.explain("c")) == "c: unknown, dropped on every wheel"


def test_an_empty_wheel_is_refused():
    with pytest.raises(WheelError, match=r"here\.xlsx.*empty"):
        Wheel.from_rows([], "here.xlsx")


@pytest.mark.parametrize("wheel", [0, 6, "w6", "6", None, [1]])
def test_an_unknown_wheel_is_named(builtin, wheel):
    with pytest.raises(KeyError, match="unknown wheel"):
        builtin.category("happy", wheel)


@pytest.mark.parametrize("level", [0, 3, "1", None])
def test_an_unknown_level_is_named(builtin, level):
    with pytest.raises(KeyError, match="unknown level"):
        builtin.category("happy", 1, level=level)


def test_an_unknown_category_names_the_known_ones(builtin):
    with pytest.raises(KeyError, match="disgusted, sad, happy"):
        builtin.words(1, "joy")


def test_unknown_rules_are_named():
    with pytest.raises(WheelError, match="mer2025, mer2026"):
        EmotionWheels.builtin(rules="mer2024")


def test_one_word_in_place_of_several_is_refused(builtin):
    with pytest.raises(TypeError, match="split_list"):
        builtin.categories("happy", 1)


def test_wheels_have_several_names(builtin):
    assert {builtin.category("angry", wheel) for wheel in (2, "2", "w2", "W2", "wheel2")} == {"angry"}
    assert builtin.ids == ("w1", "w2", "w3", "w4", "w5")


# --- every set of wheels


def test_every_category_is_reachable(any_wheels):
    for wheel in any_wheels.ids:
        reached = any_wheels.categories(any_wheels.vocabulary, wheel)
        assert reached == set(any_wheels.all_categories(wheel))


def test_the_level_1_categories_of_the_five_wheels(any_wheels):
    assert [any_wheels.all_categories(wheel) for wheel in any_wheels.ids] == [
        ["mad", "disgusted", "sad", "happy", "surprised", "scared"],
        ["fearful", "angry", "disgusted", "sad", "surprised", "happy", "bad"],
        ["mad", "scared", "joyful", "powerful", "peaceful", "sad"],
        ["joy", "genius", "anger", "sad", "fear", "disgust"],
        ["mad", "scared", "sad", "peaceful", "powerful", "joyful"],
    ]


def test_wheel_words_partition_the_wheel(any_wheels):
    for wheel in any_wheels.ids:
        for level in (1, 2):
            listed = [any_wheels.words(wheel, name, level) for name in any_wheels.all_categories(wheel, level)]
            flat = [word for found in listed for word in found]
            assert len(flat) == len(set(flat)) > 36


def test_w2_words_with_two_homes_belong_to_the_last(any_wheels):
    assert "overwhelmed" in any_wheels.words(2, "bad")
    assert "overwhelmed" not in any_wheels.words(2, "fearful")
    for word in ("inferior", "embarrassed", "disappointed"):
        assert word in any_wheels.words(2, "sad")


def test_neutral_and_punctuated_words_map_nowhere(any_wheels):
    for word in ("neutral", "happy.", "", " ", "xyzzy", "[happy"):
        assert [any_wheels.category(word, wheel) for wheel in any_wheels.ids] == [None] * 5


def test_masks_agree_with_categories(any_wheels):
    for level in (1, 2):
        masks = any_wheels.wheel_masks(level)
        for word in any_wheels.vocabulary[::37]:
            for wheel, mask in zip(any_wheels.ids, masks, strict=True):
                assert (any_wheels.mask([word], level) & mask).bit_count() == (
                    any_wheels.category(word, wheel, level) is not None
                )


def test_explain_agrees_with_category(any_wheels):
    for word in [*any_wheels.vocabulary[::53], "xyzzy"]:
        explanation = any_wheels.explain(word)
        for wheel, choice in explanation.wheels.items():
            assert choice.level1 == any_wheels.category(word, wheel)
            assert choice.level2 == any_wheels.category(word, wheel, level=2)


# --- the embedded default


@pytest.mark.parametrize("word", CORPUS_WORDS)
def test_the_corpus_words_are_covered(builtin, word):
    found = [builtin.category(word, wheel) for wheel in builtin.ids]
    assert len([category for category in found if category]) >= 3, found


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("happiness", ["happy", "happy", "joyful", "joy", "joyful"]),
        ("Annoyance ", ["mad", "angry", "mad", "anger", "mad"]),
        ("sadly", ["sad", "sad", "sad", "sad", "sad"]),
        ("worries", ["scared", "fearful", "scared", "fear", "scared"]),
        ("terrifying", ["scared", "fearful", "scared", "fear", "scared"]),
        ("disgust", ["disgusted", "disgusted", None, "disgust", None]),
    ],
)
def test_forms_follow_their_word(builtin, word, expected):
    assert [builtin.category(word, wheel) for wheel in builtin.ids] == expected


def test_a_wheel_word_stays_where_its_wheel_puts_it(builtin):
    for wheel in builtin.ids:
        for category in builtin.all_categories(wheel):
            assert {builtin.category(word, wheel) for word in builtin.words(wheel, category)} == {category}


def test_the_embedded_trees_equal_the_official_ones(builtin, official):
    for wheel in builtin.ids:
        for level in (1, 2):
            for category in official.all_categories(wheel, level):
                assert builtin.words(wheel, category, level) == official.words(wheel, category, level)


def test_the_frozen_table_is_what_its_source_makes():
    pytest.importorskip("lemminflect", reason="the builder of the embedded wheels needs lemminflect")
    from recipe.mer_r1.method.wheels.build_builtin import freeze

    assert freeze() == (DATA / FROZEN).read_text(encoding="utf-8")


def test_identity_says_who_it_is(builtin):
    assert builtin.identity.keys() == {"name", "version", "sha256"}
    assert len(builtin.sha256) == 64
    assert EmotionWheels.builtin().identity == builtin.identity


@given(words, st.sampled_from([1, 2]))
def test_order_duplicates_case_and_blanks_do_not_matter(found, level):
    changed = [f" {word.upper()}\t" for word in reversed(found)] * 2
    for wheel in BUILTIN.ids:
        assert BUILTIN.categories(found, wheel, level) == BUILTIN.categories(changed, wheel, level)
    assert BUILTIN.mask(found, level) == BUILTIN.mask(changed, level)


@given(st.text(max_size=20))
def test_any_text_may_be_asked_for(text):
    assert BUILTIN.category(text, 1) in {None, *BUILTIN.all_categories(1)}
    str(BUILTIN.explain(text))
