"""The text forms of a turn: prompt, slow and fast response, and reading back."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipe.mer_r1.method.answer import (
    FAST_PREFIX,
    FORMS,
    TWO_ANSWERS,
    ask_for,
    build_prompt,
    early_part,
    fast_response,
    labels_of,
    parse,
    slow_response,
    split_list,
)

TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
label = st.text(alphabet="abcxyz -’É", min_size=1, max_size=12).map(str.strip).filter(bool)
reason = st.text(max_size=80).filter(lambda text: not any(tag in text for tag in TAGS))
messy = st.lists(st.sampled_from([*TAGS, "happy", "sad", ", ", " ", "\n", "[", "]", "'", '"', "<", "é"])).map("".join)


def test_prompt_is_the_convention():
    assert build_prompt("I am fine.") == (
        "<video><audio>Subtitle: I am fine.\nWhat does the person feel? Reason inside <think> </think>, "
        "then list the emotion words inside <answer> </answer>."
    )


def test_a_prompt_offers_labels_and_leaves_out_an_empty_subtitle():
    question = FORMS["think_answer"].instruction
    assert build_prompt("", ["happy", "sad"]) == f"<video><audio>Choose among: happy, sad.\n{question}"
    assert build_prompt("Hi.", ["sad"]) == f"<video><audio>Subtitle: Hi.\nChoose among: sad.\n{question}"
    assert build_prompt("") == f"<video><audio>\n{question}"


def test_a_prompt_asks_for_another_form():
    prompt = build_prompt("Hi.")
    assert ask_for("think_answer", prompt) == prompt
    assert ask_for("answer_think_answer", prompt) == (
        "<video><audio>Subtitle: Hi.\nWhat does the person feel? List the emotion words you think of first inside "
        "<answer> </answer>, reason inside <think> </think>, then list the final emotion words inside "
        "<answer> </answer>."
    )
    with pytest.raises(ValueError, match="answer_think_answer cannot be used"):
        ask_for("answer_think_answer", f"{prompt} ")


@pytest.mark.parametrize("placeholder", ["<video>", "<audio>", "<image>", "<|im_end|>", "</think>", "<tts_pad>"])
def test_prompt_refuses_a_text_with_what_the_model_would_not_read_as_words(placeholder):
    with pytest.raises(ValueError, match=re.escape(repr(placeholder))):
        build_prompt(f"look {placeholder} here")
    with pytest.raises(ValueError, match=re.escape(repr(placeholder))):
        build_prompt("", ["happy", placeholder])


@pytest.mark.parametrize("truth", ["happy", None, 0.5, [0.5], ["happy", None]])
def test_labels_that_are_no_list_of_words_are_refused(truth):
    with pytest.raises(ValueError, match=r"reward_model\.ground_truth"):
        labels_of({"ground_truth": truth})
    assert labels_of({"ground_truth": ("happy", "sad")}) == ["happy", "sad"]


def test_slow_and_fast_forms():
    assert slow_response("He smiles.", ["happy", "proud"]) == "<think>He smiles.</think><answer>happy, proud</answer>"
    assert fast_response(["happy", "proud"]) == "<think></think><answer>happy, proud</answer>"
    assert fast_response(["happy"]).startswith(FAST_PREFIX)
    assert parse(fast_response(["happy"])).think == ""


def test_parse_reads_words_and_spans():
    text = "<think> calm </think>\n<answer>\n [Happy, 'sad',, very  glad]\n</answer>"
    answer = parse(text)
    assert answer.well_formed
    assert answer.think == "calm"
    assert answer.text == "[Happy, 'sad',, very  glad]"
    assert answer.words == ["Happy", "sad", "very  glad"]
    assert [text[a:b] for a, b in answer.spans] == answer.words


@pytest.mark.parametrize(
    ("text", "well_formed", "words"),
    [
        ("<think>a</think><answer>happy</answer>", True, ["happy"]),
        ("<think></think> \n\t<answer></answer>", True, []),
        ("<think>a</think><answer>happy</answer>.", False, ["happy"]),
        ("<think>a</think><answer>happy</answer>\n", False, ["happy"]),
        (" <think>a</think><answer>happy</answer>", False, ["happy"]),
        ("<think>a</think>so <answer>happy</answer>", False, ["happy"]),
        ("<answer>happy</answer>", False, ["happy"]),
        ("<think>a<answer>happy</answer>", False, ["happy"]),
        ("<answer>happy</answer><think>a</think>", False, []),
        ("<think>a</think><answer>happy", False, []),
        ("<think>a</think>happy</answer>", False, []),
        ("<think>a</think><answer>happy</answer><answer>sad</answer>", False, ["happy"]),
        ("<think>a</think><think>b</think><answer>sad</answer>", False, ["sad"]),
        ("<think>say <answer>x</answer></think><answer>sad</answer>", False, ["sad"]),
        ("<think>a</think><answer>x <answer>happy</answer>", False, ["x <answer>happy"]),
        ("<Think>a</Think><Answer>happy</Answer>", False, []),
        ("", False, []),
        ("happy, sad", False, []),
    ],
)
def test_format_rule(text, well_formed, words):
    answer = parse(text)
    assert answer.well_formed is well_formed
    assert answer.words == words


@pytest.mark.parametrize(
    ("text", "well_formed", "first", "think", "last"),
    [
        ("<answer>sad</answer><think> b </think><answer>calm</answer>", True, ["sad"], "b", ["calm"]),
        ("<answer>sad</answer>\n<think></think>\n<answer>calm</answer>", True, ["sad"], "", ["calm"]),
        ("<answer>sad</answer>so<think>b</think><answer>calm</answer>", False, ["sad"], "b", ["calm"]),
        ("<answer>sad</answer><think>b</think>so<answer>calm</answer>", False, ["sad"], "b", ["calm"]),
        ("<answer>sad</answer><answer>x</answer><think>b</think><answer>calm</answer>", False, ["sad"], "b", ["calm"]),
        ("<answer>sad<think>b</think><answer>calm</answer>", False, [], "b", ["calm"]),
        ("<think>b</think><answer>calm</answer>", False, [], "b", ["calm"]),
        ("<answer>sad</answer><think>b</think>", False, ["sad"], "b", []),
        ("<answer>sad</answer>", False, [], "", ["sad"]),
    ],
)
def test_an_answer_before_the_thought(text, well_formed, first, think, last):
    answer = parse(text, "answer_think_answer")
    assert (answer.well_formed, answer.first_words, answer.think, answer.words) == (well_formed, first, think, last)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[happy, sad]", ["happy", "sad"]),
        ("['happy', \"sad\"]", ["happy", "sad"]),
        ("happy", ["happy"]),
        ("[[happy]]", ["[happy]"]),
        ("[", []),
        ("]", []),
        ("", []),
        ("[]", []),
        (" , ,", []),
        (" [happy]", ["[happy"]),
        ("happy.; sad", ["happy.; sad"]),
        ("don't care", ["don", "t care"]),
        ("happy，sad", ["happy，sad"]),
    ],
)
def test_list_rule(text, words):
    assert split_list(text) == words


@pytest.mark.parametrize("labels", [["a,b"], ["don't"], [""], [" a"], ["[a"], ["a", "b]"], ["</answer>"]])
def test_labels_that_could_not_be_read_back_are_refused(labels):
    with pytest.raises(ValueError, match="label"):
        fast_response(labels)


def test_a_reason_with_a_tag_is_refused():
    with pytest.raises(ValueError, match="</think>"):
        slow_response("so</think>", ["happy"])


@given(reason, st.lists(label, max_size=6))
def test_round_trip(text, labels):
    answer = parse(slow_response(text, labels))
    assert (answer.think, answer.words, answer.well_formed) == (text.strip(), labels, True)


@given(messy | st.text())
def test_parse_never_raises_and_spans_hold_the_words(text):
    answer = parse(text)
    assert [text[a:b] for a, b in answer.spans] == answer.words
    assert all(word and word == word.strip() for word in answer.words)
    assert answer.words == split_list(answer.text)


@given(st.text(alphabet="ab[]'\", é\n", max_size=30))
def test_list_rule_equals_its_plain_statement(text):
    plain = text[1:] if text.startswith("[") else text
    plain = plain[:-1] if plain.endswith("]") else plain
    plain = plain.replace("'", ",").replace('"', ",")
    assert split_list(text) == [item.strip() for item in plain.split(",") if item.strip()]


@pytest.mark.parametrize(
    ("response", "early"),
    [
        ("<answer>happy</answer><think>so</think><answer>sad</answer>", "<answer>happy</answer>"),
        ("<answer>happy</answer>\n<think>so", "<answer>happy</answer>"),
        ("<answer>happy<think>so</think><answer>sad</answer>", "<answer>happy"),  # never closed: no words
        ("<think>so</think><answer>sad</answer>", ""),
        ("<answer>hap", "<answer>hap"),
        ("", ""),
    ],
)
def test_the_early_part_ends_with_the_first_answer(response, early):
    assert early_part(response) == early
    assert parse(response, TWO_ANSWERS).first_words == parse(early).words


def test_one_answer_without_a_thought_is_the_first_and_the_last():
    assert early_part("<answer>happy</answer>") == "<answer>happy</answer>"
