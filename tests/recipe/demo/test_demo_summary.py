"""summary.json, results.md and the picture, from made results."""

import json
import statistics

import pytest
from demo_cases import STAGES, finished
from hypothesis import given
from hypothesis import strategies as st

from recipe.mer_r1.demo import figure, summary

RISING = [0.5 + 0.005 * number for number in range(30)]


@pytest.fixture
def found(tmp_path):
    return summary.build(tmp_path, finished(tmp_path, RISING))


def test_the_summary_has_the_shape_that_others_read(found):
    assert set(found["rl"]) == {"f1", "recall", "precision", "format"}
    assert all(len(values) == 30 for values in found["rl"].values())
    assert found["rl"]["f1"] == RISING
    for mode in ("slow", "fast"):
        assert {"f1", "recall", "precision"} <= set(found["eval"][mode])
    assert set(found["seconds"]) == {"setup", "data", "sft", "rl_startup", "rl_step_median", "eval", "total"}
    assert found["vllm_actor_logprob_max_abs_diff"] == pytest.approx(30e-7)
    assert isinstance(found["peak_rss_gb"], float)
    assert {"python", "verl", "torch"} <= set(found["versions"])
    json.dumps(found, allow_nan=False)


def test_times_add_up(found):
    seconds = found["seconds"]
    assert seconds["total"] == 10.0 * len(STAGES)
    assert (seconds["data"], seconds["sft"], seconds["eval"]) == (10.0, 20.0, 20.0)
    assert (seconds["rl_startup"], seconds["rl_step_median"]) == (60.0, 4.0)


def test_validations_stand_beside_the_steps(found):
    assert found["validation"]["fast"]["step"] == [0, 30]
    assert found["validation"]["slow"]["f1"] == [0.5, 0.7]


def test_the_time_of_setup_is_read_where_it_was_noted(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    assert summary.setup_seconds() is None
    (tmp_path / ".setup_seconds").write_text("83\n")
    assert summary.setup_seconds() == 83.0


def verdict(f1, form=1.0):
    return summary.verdict({"f1": f1, "format": [form] * len(f1)})


def test_learning_is_said_plainly():
    assert verdict(RISING)["yes"]
    assert summary.statement(verdict(RISING)).startswith("The model learnt in RL: F1 of sampled answers 0.510")


@pytest.mark.parametrize(
    "learnt", [verdict(RISING[::-1]), verdict([0.5] * 30), verdict(RISING, form=0.89)], ids=["worse", "same", "format"]
)
def test_not_learning_is_said_plainly(learnt):
    assert not learnt["yes"]
    assert "did NOT learn" in summary.statement(learnt)


def test_too_few_steps_say_nothing():
    learnt = verdict(RISING[:4])
    assert not learnt["yes"]
    assert summary.statement(learnt).startswith("Too few steps")


@given(st.lists(st.floats(0, 1), min_size=10, max_size=60))
def test_the_verdict_compares_the_first_and_the_last_five(f1):
    assert verdict(f1)["yes"] == (statistics.fmean(f1[-5:]) > statistics.fmean(f1[:5]))


def test_the_page_shows_table_picture_and_verdict(found):
    text = summary.page(found)
    assert "results.png" in text
    assert "The model learnt" in text
    assert text.count("| RL |") == text.count("| SFT |") == 4


def test_sampled_answers_stand_apart_from_greedy_ones(tmp_path):
    stamps = finished(tmp_path, RISING)
    path = tmp_path / "eval_rl" / "mer_micro" / "scores.json"
    scores = json.loads(path.read_text())
    scores["modes"]["slow_sampled"] = scores["modes"]["slow"] | {"f1": 0.123}
    path.write_text(json.dumps(scores))
    found = summary.build(tmp_path, stamps)
    assert set(found["eval"]) == set(found["eval_sampled"]) == {"slow", "fast"}
    assert found["eval"]["slow"]["f1"] == 0.65
    assert summary.table(found)[3][4] == "0.650"
    assert summary.table(found, sampled=True)[3][4] == "0.123"


def test_a_mode_without_scored_clips_has_dashes(found):
    found["eval"]["slow"] = dict.fromkeys(found["eval"]["slow"]) | {"n": 0}
    assert summary.table(found)[3].count("–") == 7


def test_the_picture_is_drawn(found, tmp_path):
    path = tmp_path / "results.png"
    figure.draw(found, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 20_000


def test_the_picture_stands_a_single_step_and_missing_scores(found, tmp_path):
    found["rl"] = {score: values[:1] for score, values in found["rl"].items()}
    found["eval"]["fast"] = dict.fromkeys(found["eval"]["fast"]) | {"n": 0}
    figure.draw(found, tmp_path / "results.png")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_the_running_mean_stays_between_the_extremes(values):
    means = figure.running_mean(values)
    assert len(means) == len(values)
    assert all(min(values) - 1e-9 <= mean <= max(values) + 1e-9 for mean in means)


def test_the_running_mean_of_a_line_is_the_line_inside():
    assert figure.running_mean([float(i) for i in range(20)], 5)[2:-2] == pytest.approx(range(2, 18))
