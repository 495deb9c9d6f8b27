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
