"""The datasets of SFT and RL ask for the experiment's form."""

import random

import pytest
from omegaconf import OmegaConf

from recipe.mer_r1.method.answer import FAST_PREFIX, FORMS, build_prompt, parse

pytestmark = pytest.mark.seam
TWICE = "answer_think_answer"
ROW = {
    "prompt": [{"role": "user", "content": build_prompt("Fine.")}],
    "videos": ["a.mp4"],
    "audios": ["a.wav"],
    "reward_model": {"ground_truth": ["happy", "calm"]},
    "extra_info": {"reason": "A smile.", "name": "a"},
}


def draws(form, row=ROW, fast_fraction=0.5):
    from recipe.mer_r1.training.sft_dataset import MERSFTDataset

    dataset = MERSFTDataset.__new__(MERSFTDataset)  # drawing needs no files
    dataset.config = OmegaConf.create({"form": form, "fast_fraction": fast_fraction})
    rng = random.Random(0)
    return [dataset.draw(row, rng) for _ in range(40)]


def test_sft_draws_both_forms_of_slow_and_fast_thinking():
    given = {draw.given for draw in draws("think_answer")}
    assert given == {"", FAST_PREFIX}
    assert all(draw.prompt == ROW["prompt"][0]["content"] for draw in draws("think_answer"))


def test_sft_teaches_two_answers_where_the_form_has_two():
    for draw in draws(TWICE):
        assert draw.given == ""
        answer = parse(draw.target, TWICE)
        assert (answer.well_formed, answer.first_words, answer.words) == (True, ["happy", "calm"], ["happy", "calm"])
        assert draw.prompt.endswith(FORMS[TWICE].instruction)


def test_a_prompt_of_the_users_own_cannot_ask_for_another_form():
    from verl_ext.data.dataset import ShardError

    row = {**ROW, "prompt": [{"role": "user", "content": "Your own question"}]}
    assert draws("think_answer", row)[0].prompt == "Your own question"
    with pytest.raises(ShardError, match=r"\(a\): the prompt does not end with"):
        draws(TWICE, row)


@pytest.mark.parametrize("form", FORMS)
def test_rl_asks_for_the_form_and_leaves_the_row_as_it_was(form):
    from recipe.mer_r1.training.rl_dataset import MERDataset

    dataset = MERDataset.__new__(MERDataset)
    dataset.image_key, dataset.video_key, dataset.audio_key = "images", "videos", "audios"
    dataset.processor, dataset.config = True, OmegaConf.create({"form": form})
    messages = dataset._build_messages(ROW, key="prompt")
    assert [part["type"] for part in messages[0]["content"]] == ["video", "audio", "text"]
    assert messages[0]["content"][-1]["text"].endswith(FORMS[form].instruction)
    assert ROW["prompt"][0]["content"] == build_prompt("Fine.")


@pytest.mark.parametrize(("reasons", "noted"), [(["", None], True), (["", "A smile."], False)])
def test_sft_says_that_rows_without_reasons_teach_the_fast_form_only(reasons, noted):
    from recipe.mer_r1.training.sft_dataset import MERSFTDataset

    dataset = MERSFTDataset.__new__(MERSFTDataset)
    dataset.rows = {"extra_info": [{"reason": reason} for reason in reasons]}
    assert ("fast form only" in dataset.note()) == noted
    row = {**ROW, "extra_info": {"name": "a", "reason": reasons[0]}}
    assert {draw.given for draw in draws("think_answer", row, fast_fraction=0)} == {FAST_PREFIX}
