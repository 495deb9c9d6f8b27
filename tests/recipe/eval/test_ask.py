"""`ask` and `open_model` without vLLM: what is asked, and what a wrong name gives."""

from types import SimpleNamespace

import pytest

from recipe.mer_r1.eval.ask import ask, open_model
from recipe.mer_r1.eval.rollout import Reply
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.method.answer import FAST_PREFIX, ONE_ANSWER, TWO_ANSWERS
from recipe.mer_r1.run import launch

ROW = {"prompt": [{"role": "user", "content": "<video>What?"}], "videos": ["a.mp4"]}


def test_a_clip_is_asked_for_both_forms_at_once_and_greedily():
    asked = []

    class Model:
        form = ONE_ANSWER

        def __call__(self, requests):
            asked.append(requests)
            return [Reply(f"reply to {request.prefix!r}", 1, True) for request in requests]

    model = Model()
    replies = ask(model, ROW)
    assert {mode: reply.text for mode, reply in replies.items()} == {
        "slow": "reply to ''",
        "fast": f"reply to {FAST_PREFIX!r}",
    }
    (requests,) = asked
    assert all(request.row is ROW and request.temperature == 0 for request in requests)


def test_a_model_that_answers_twice_is_asked_once():
    asked = []

    class Model:
        form = TWO_ANSWERS

        def __call__(self, requests):
            asked.extend(requests)
            return [Reply("<answer>sad</answer><think>so</think><answer>happy</answer>", 9, True)]

    replies = ask(Model(), ROW)
    assert [request.prefix for request in asked] == [""]
    assert replies["slow"].text == "<answer>sad</answer><think>so</think><answer>happy</answer>"
    assert replies["fast"].text == "<answer>sad</answer>"


def test_a_wrong_name_is_an_error_and_not_the_end_of_the_program(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "prepare_environment", lambda *_: None)  # other tests have an environment of their own
    with pytest.raises(InputError, match="no such folder"):
        open_model(str(tmp_path / "no"))
    with pytest.raises(InputError, match=r"has no config\.json, weights"):
        open_model(str(tmp_path))
    with pytest.raises(ValueError, match="no such preset; use one of"):
        open_model(str(tmp_path), preset="no")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "<video>What?"}, "the row of clip 'a': `prompt` is not a list of messages"),
        ({"videos": "a.mp4"}, "`videos` is 'a.mp4'; write a list of paths"),
        ({"videos": []}, "1 <video> in the prompt, but 0 paths in `videos`"),
        ({"prompt": [{"role": "user", "content": "<video>bye <|im_end|>"}]}, "`prompt` contains '<|im_end|>'"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named_before_the_model_runs(changes, message):
    with pytest.raises(InputError) as caught:
        ask(SimpleNamespace(form=ONE_ANSWER), {**ROW, "extra_info": {"name": "a"}, **changes})
    assert message in str(caught.value)
