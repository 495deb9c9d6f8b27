"""Scores while SFT goes on: means by source and mode, what failed, ids that end an answer."""

import json

import pytest

from recipe.mer_r1.eval import records, sft_scores
from recipe.mer_r1.method.answer import FAST_PREFIX
from recipe.mer_r1.method.wheel import EmotionWheels


@pytest.fixture(scope="module")
def lines():
    """Two clips of one source and one of another, whose fast answer failed."""
    wheels = EmotionWheels.builtin()

    def line(place, source, labels, mode, response, failed=None):
        row = {
            "data_source": source,
            "prompt": [{"role": "user", "content": "?"}],
            "reward_model": {"ground_truth": labels},
            "extra_info": {"name": f"clip{place}"},
        }
        made = records.failure(row, place, failed, wheels) if failed else records.record(row, place, response, wheels)
        return made | {"mode": mode, "tokens": 3, "finished": True}

    slow = "<think>Because.</think><answer>{}</answer>"
    return [
        line(0, "a", ["happy"], "slow", slow.format("happy")),
        line(0, "a", ["happy"], "fast", FAST_PREFIX + "sad</answer>"),
        line(1, "a", ["sad"], "slow", slow.format("angry")),
        line(1, "a", ["sad"], "fast", FAST_PREFIX + "sad</answer>"),
        line(2, "b", ["angry"], "slow", "angry"),
        line(2, "b", ["angry"], "fast", "", failed="cannot be decoded"),
        line(3, "b", [], "slow", slow.format("angry")),  # no label: counts nowhere
    ]


def test_the_means_are_by_source_and_mode(lines):
    found = sft_scores.summary(lines, seconds=2.5)
    assert found.metrics["val-aux/a/slow/f1/mean@1"] == 0.5
    assert found.metrics["val-aux/a/slow/format/mean@1"] == 1.0
    assert found.metrics["val-aux/a/fast/recall/mean@1"] == 0.5
    assert found.metrics["val-aux/b/slow/format/mean@1"] == 0.0
    assert found.metrics["val-aux/b/fast/f1/mean@1"] == 0.0
    assert found.metrics["val/failed"] == 1
    assert found.metrics["perf/score_seconds"] == 2.5
    assert found.text.startswith("slow F1 0.333 R 0.333 P 0.333 format 0.667; fast F1 0.333")
    assert found.text.endswith("(3 clips, 2.5 s)")
    assert found.warning == "1 of 4 clips failed and count as wrong. The first is 'clip2': cannot be decoded"


def test_without_a_label_on_a_wheel_there_is_no_mean(lines):
    found = sft_scores.summary(lines[-1:], seconds=1.0)
    assert found.text == "no label of the clips is on a wheel"
    assert found.metrics == {"val/failed": 0.0, "perf/score_seconds": 1.0}
    assert found.warning == ""


@pytest.mark.parametrize(("given", "expected"), [(None, [7]), (7, [7]), ([7, 9], [7, 9]), (9, [7, 9])])
def test_an_answer_ends_as_in_vllm(given, expected, tmp_path):
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": given}))
    assert sft_scores.ends(str(tmp_path), 7) == expected


def test_a_model_without_generation_config_ends_with_its_tokenizers_token(tmp_path):
    assert sft_scores.ends(str(tmp_path), 7) == [7]


class Engine:
    """Answers with the text that a prompt's ids spell, and sees prompts only when it takes them."""

    def answers(self, prompts, max_tokens, ends, banned, tokens_at_once):
        return [[*prompt.ids, 0] for prompt in prompts]


class Tokenizer:
    """An id is a letter; 0 ends an answer."""

    def decode(self, ids, skip_special_tokens):
        return "".join(chr(token) for token in ids if token)


@pytest.mark.seam
@pytest.mark.parametrize("form", ["think_answer", "answer_think_answer"])
def test_a_clip_that_fails_is_wrong_and_the_others_keep_their_answers(form, monkeypatch, tmp_path):
    from types import SimpleNamespace

    from recipe.mer_r1.eval import rollout

    texts = {"slow": "<think>x</think><answer>happy</answer>", "fast": "happy</answer>"}
    twice = form == "answer_think_answer"
    if twice:
        texts = {"slow": "<answer>sad</answer><think>x</think><answer>happy</answer>"}

    def encoded_prompt(row, prefix, form, encoder, limit):
        if row["extra_info"]["name"] == "clip1":
            raise RuntimeError("a broken file")
        return SimpleNamespace(inputs={}), [ord(letter) for letter in texts["fast" if prefix else "slow"]]

    monkeypatch.setattr(rollout, "encoded_prompt", encoded_prompt)
    scores = sft_scores.ClipScores.__new__(sft_scores.ClipScores)
    scores.rows = [
        {
            "data_source": "a",
            "prompt": [{"role": "user", "content": "?"}],
            "reward_model": {"ground_truth": ["happy"]},
            "extra_info": {"name": f"clip{place}"},
        }
        for place in range(3)
    ]
    scores.wheels, scores.form, scores.folder = EmotionWheels.builtin(), form, tmp_path / "validation"
    scores.modes = ("slow",) if twice else ("slow", "fast")
    media = SimpleNamespace(use_audio_in_video=False)
    scores.encoder = SimpleNamespace(processor=SimpleNamespace(tokenizer=Tokenizer()), media=media)
    scores.max_prompt = scores.max_tokens = scores.tokens_at_once = 100
    scores.ends, scores.banned = [0], []
    lines = scores._answer(Engine(), range(3))
    found = {(line["mode"], line["index"]): line for line in lines}
    assert len(found) == len(lines) == 6
    assert [found["slow", place]["f1"] for place in range(3)] == [1.0, 0.0, 1.0]
    assert [found["fast", place]["f1"] for place in range(3)] == ([0.0] * 3 if twice else [1.0, 0.0, 1.0])
    assert found["slow", 1]["failed"] == found["fast", 1]["failed"] == "a broken file"
    assert found["slow", 2]["finished"]
    assert sft_scores.summary(lines, 1.0).metrics["val/failed"] == 1
    scores._write(lines, step=7)
    written = [json.loads(line) for line in (tmp_path / "validation" / "7.jsonl").read_text().splitlines()]
    assert len(written) == (3 if twice else 6)  # the first answer is a part of the other one
    assert {line["clip"]: line["output"] for line in written}["clip1"] == ""
    assert written[0]["output"] == texts["slow"]
