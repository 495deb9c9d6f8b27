"""Confidences beside answers: what is read back, what is refused, and what becomes of them in results."""

import json

import pytest
from confidence_cases import NAN, meta, sure
from result_cases import LABELS, write_answers

from recipe.mer_r1.eval.answers import read_answers
from recipe.mer_r1.eval.confidence_files import claim, confidence_path, meta_path, read_confidences
from recipe.mer_r1.eval.measure import measure
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.method.wheel import EmotionWheels

SLOW = (-2.0, -1.0, NAN, -3.0, NAN, -2.0)
FAST = (-1.0, -1.0, -1.0, -1.0, -1.0, NAN)


@pytest.fixture
def folder(tmp_path):
    return write_answers(tmp_path / "answers", "ov_merd_plus", model=tmp_path / "model")


def measured(folder, wheels=None, named=False):
    return measure(folder, wheels or EmotionWheels.builtin(), bootstrap=20, seed=0, wheels_named=named)


def read(folder, mode="slow"):
    path = folder / f"{mode}.jsonl"
    return read_confidences(path, read_answers(folder).modes[mode])


def test_what_was_written_is_read_back_by_clip(folder):
    assert read(folder) is None
    sure(folder, "slow", SLOW)
    lines, found = read(folder)
    assert found == meta(folder)
    assert [lines[index].own.truth for index in range(6)] == [-2.0, -1.0, None, -3.0, None, -2.0]
    assert lines[0].own.margin == 2.0
    assert lines[0].signals == {"calib_pos": 0.5, "calib_neg": None}
    assert lines[0].categories == {"w1": {"happy": -2.0}}


def test_means_are_over_the_clips_where_both_are_defined(folder):
    sure(sure(folder, "slow", SLOW), "fast", FAST)
    found = measured(folder)
    slow, fast = found.mode("slow"), found.mode("fast")
    assert slow.metrics["truth"].value == pytest.approx(-2.0)
    assert slow.metrics["margin"].value == pytest.approx(2.0)
    assert fast.metrics["truth"].value == pytest.approx(-1.0)
    assert slow.metrics["truth"].low < -2.0 < slow.metrics["truth"].high
    assert found.gaps["truth"].value == pytest.approx((1 + 0 + 2) / 3)
    assert found.gaps["categories"].value == pytest.approx(
        fast.metrics["categories"].value - slow.metrics["categories"].value
    )
    assert slow.reading.precision == "fp32"
    assert slow.unread is None
    # Of fast's five hits slow keeps three, and angry too on a wheel where it is one with sad.
    assert found.retained_hit.low < 0.6 <= found.retained_hit.value < 0.7


def test_what_is_not_read_yet_is_named_with_its_command(folder):
    found = measured(folder)
    assert "truth" not in found.mode("slow").metrics
    assert f"`main_eval confidence {folder}`" in found.mode("slow").unread
    sure(folder, "slow", SLOW[:4])
    assert (
        measured(folder)
        .mode("slow")
        .unread.startswith(f"the confidences of {len(LABELS) - 4} of {len(LABELS)} answers")
    )


def test_confidences_on_other_wheels_are_left_out(folder, shared):
    sure(folder, "slow", SLOW)
    official = EmotionWheels.load(shared / "emotion_wheel" / "mer2025")
    found = measured(folder, official, named=True).mode("slow")
    assert "truth" not in found.metrics
    assert "computed with the wheels mer-r1-builtin" in found.unread


def test_a_response_made_anew_is_refused(folder):
    sure(folder, "slow", SLOW)
    path = folder / "slow.jsonl"
    path.write_text(path.read_text().replace("<think>so</think>", "<think>well</think>", 1))
    with pytest.raises(InputError, match="'clip_0' has changed; delete this file"):
        measured(folder)


def test_half_a_line_is_refused(folder):
    sure(folder, "slow", SLOW)
    path = confidence_path(folder / "slow.jsonl")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="line 6: cut off; run `main_eval confidence"):
        read(folder)


def test_a_line_that_lacks_something_is_named(folder):
    sure(folder, "slow", SLOW)
    path = confidence_path(folder / "slow.jsonl")
    first, *rest = path.read_text().splitlines(keepends=True)
    broken = json.loads(first)
    del broken["own"]["margin"]
    path.write_text("".join([json.dumps(broken) + "\n", *rest]))
    with pytest.raises(InputError, match=r"slow.confidence.jsonl, line 1: own.margin: Field required"):
        read(folder)


def test_confidences_without_their_settings_are_refused(folder):
    sure(folder, "slow", SLOW)
    meta_path(folder / "slow.jsonl").unlink()
    with pytest.raises(InputError, match=r"no such file, but slow\.confidence\.jsonl needs it"):
        read(folder)


def test_other_settings_do_not_go_on_in_a_file(folder):
    sure(folder, "slow", SLOW)
    claim(folder / "slow.jsonl", meta(folder))
    with pytest.raises(InputError, match=r"other settings \(reading: .*-20.0.*-10.0.*Delete it and"):
        claim(folder / "slow.jsonl", meta(folder, floor=-10.0))
