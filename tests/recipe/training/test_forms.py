"""The forms of a response: slow thinking, and VideoAuto-R1's answer before and after the thought."""

import asyncio

import pytest
from omegaconf import OmegaConf

from recipe.mer_r1.method.answer import FORMS, ask_for, build_prompt, parse, slow_response
from recipe.mer_r1.method.reward import score_answer
from recipe.mer_r1.method.wheel import EmotionWheels

TWICE = "answer_think_answer"
BUILTIN = EmotionWheels.builtin()


@pytest.mark.parametrize("form", FORMS)
def test_a_response_of_a_form_is_well_formed_in_it_alone(form):
    response = slow_response("A smile.", ["happy", "calm"], form)
    assert parse(response, form).well_formed
    assert not any(parse(response, other).well_formed for other in FORMS if other != form)
    assert parse(response, form).words == ["happy", "calm"]
    assert parse(response, form).think == "A smile."


def test_both_answers_are_read():
    answer = parse("<answer>sad</answer><think>No, a smile.</think><answer>happy, calm</answer>", TWICE)
    assert (answer.first_words, answer.words, answer.well_formed) == (["sad"], ["happy", "calm"], True)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("<think>a</think><answer>happy</answer>", [], ["happy"]),
        ("<answer>sad<think>a</think><answer>happy</answer>", [], ["happy"]),
        ("<answer>sad</answer>", [], ["sad"]),
        ("<answer>sad</answer> <think>a</think>", ["sad"], []),
        ("<answer></answer><think>a</think><answer>happy</answer>", [], ["happy"]),
    ],
)
def test_malformed_responses_yield_what_they_hold(text, first, last):
    answer = parse(text, TWICE)
    assert (answer.first_words, answer.words) == (first, last)


@pytest.mark.parametrize(
    "text",
    [
        " <answer>a</answer><think>b</think><answer>a</answer>",
        "<answer>a</answer>x<think>b</think><answer>a</answer>",
        "<answer>a</answer><think>b</think>x<answer>a</answer>",
        "<answer>a</answer><think>b</think><answer>a</answer>.",
    ],
)
def test_text_between_the_parts_is_not_well_formed(text):
    assert not parse(text, TWICE).well_formed


def test_blanks_between_the_parts_are():
    assert parse("<answer>a</answer>\n<think>b</think> <answer>a</answer>", TWICE).well_formed


def test_the_first_answer_is_scored_on_its_own():
    scores = score_answer(
        parse("<answer>sad</answer><think>.</think><answer>happy</answer>", TWICE), ["happy"], BUILTIN
    )
    assert (scores.f1_first, scores.f1, scores.format) == (0.0, 1.0, 1.0)
    swapped = score_answer(
        parse("<answer>happy</answer><think>.</think><answer>sad</answer>", TWICE), ["happy"], BUILTIN
    )
    assert (swapped.f1_first, swapped.f1) == (1.0, 0.0)


def test_a_prompt_can_ask_for_another_form():
    prompt = build_prompt("Fine.")
    other = ask_for(TWICE, prompt)
    assert other.endswith(FORMS[TWICE].instruction)
    assert other.startswith("<video><audio>Subtitle: Fine.\n")
    assert ask_for("think_answer", "any prompt of the user's own") == "any prompt of the user's own"
    with pytest.raises(ValueError, match="cannot be used"):
        ask_for(TWICE, "any prompt of the user's own")


def test_labels_that_hold_a_tag_are_refused_in_every_form():
    with pytest.raises(ValueError, match="contains one of the tags"):
        slow_response("x", ["</answer>"], TWICE)


@pytest.mark.seam
def test_the_reward_manager_scores_the_form_and_names_the_categories():
    import torch
    from transformers import PreTrainedTokenizerFast
    from verl import DataProto

    from recipe.mer_r1.training.reward_manager import EmotionRewardManager
    from verl_ext.models.tiny_tokenizer import train_tokenizer

    text = "<answer>sad</answer><think>No.</think><answer>happy</answer>"
    tokenizer: PreTrainedTokenizerFast = train_tokenizer([text] * 3, ["sad", "happy"], vocab_size=400)
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
    config = OmegaConf.create(
        {
            "mer_r1": {
                "wheels": {"folder": None},
                "form": TWICE,
                "reward": {"f1_first": 0.9, "f1": 1.1, "format": 1.0},
                "min_thought_tokens": 0,
            }
        }
    )
    manager = EmotionRewardManager(config, tokenizer, None)
    data = DataProto.from_dict(
        {"responses": ids, "attention_mask": torch.ones_like(ids)},
        non_tensors={"reward_model": [{"ground_truth": ["happy"]}], "response_prefix": [""]},
    )
    found = asyncio.run(manager.run_single(data))
    assert found["reward_score"] == pytest.approx(1.1 + 1.0)
    info = found["reward_extra_info"]
    assert (info["f1_first"], info["f1"], info["num_words"]) == (0.0, 1.0, 1)
    assert info["truth"] == info["predicted"] == " ".join(f"{w}/{BUILTIN.category('happy', w)}" for w in BUILTIN.ids)


@pytest.mark.seam
@pytest.mark.parametrize(
    ("needed", "prefix", "text", "expected"),
    [
        (0, "", "<think></think><answer>happy</answer>", 1.0),  # the paper's rule: an empty thought is well formed
        (1, "", "<think></think><answer>happy</answer>", 0.0),
        (1, "", "<think> \n</think><answer>happy</answer>", 0.0),  # blanks are no thought
        (1, "", "<think>No.</think><answer>happy</answer>", 1.0),
        (9, "", "<think>No.</think><answer>happy</answer>", 0.0),
        (9, "<think></think><answer>", "happy</answer>", 1.0),  # fast thinking: the prompt has emptied the thought
        (0, "", "No.</think><answer>happy</answer>", 0.0),
    ],
)
def test_a_thought_can_be_asked_for(needed, prefix, text, expected):
    import torch
    from verl import DataProto

    from recipe.mer_r1.training.reward_manager import EmotionRewardManager
    from verl_ext.models.tiny_tokenizer import train_tokenizer

    tokenizer = train_tokenizer([text] * 3, ["happy"], vocab_size=400)
    settings = {"wheels": {"folder": None}, "form": "think_answer", "reward": {"format": 2.0}}
    config = OmegaConf.create({"mer_r1": {**settings, "min_thought_tokens": needed}})
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
    data = DataProto.from_dict(
        {"responses": ids, "attention_mask": torch.ones_like(ids)},
        non_tensors={"reward_model": [{"ground_truth": ["happy"]}], "response_prefix": [prefix]},
    )
    found = asyncio.run(EmotionRewardManager(config, tokenizer, None).run_single(data))
    assert found["reward_extra_info"]["format"] == expected
    assert found["reward_score"] == 2 * expected
    assert found["reward_extra_info"]["f1"] == 1.0  # the words are scored all the same
    thought = "No." if "<think>No." in text else ""
    assert found["reward_extra_info"]["thought_tokens"] == len(tokenizer.encode(thought, add_special_tokens=False))
