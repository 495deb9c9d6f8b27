"""Answers, clues and shard rows: how they are joined, and what is refused."""

import json

import pytest

from recipe.mer_r1.eval.judge.questions import clip_key, join, read_answers, read_clues
from recipe.mer_r1.files.errors import InputError

ANSWER = {"index": 0, "name": "A/x", "labels": ["happy"], "response": "happy\u2028or so"}
ROW = {
    "videos": ["/x.mp4"],
    "reward_model": {"ground_truth": ["happy"]},
    "extra_info": {"name": "A/x", "group": "SA"},
}


def write(path, *answers):
    path.write_text("".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers))
    return path


def test_answers_are_read_in_the_shards_order(tmp_path):
    answers = read_answers(write(tmp_path / "slow.jsonl", {**ANSWER, "index": 2}, ANSWER))
    assert [answer["index"] for answer in answers] == [0, 2]
    assert answers[0]["response"] == "happy\u2028or so"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no answers in this file"),
        ([ANSWER, ANSWER], "answered twice"),
        ([ANSWER, {**ANSWER, "sample": 1}], r"slow\.jsonl holds several answers per clip .*this command takes one"),
        ([{**ANSWER, "index": True}], "needs the keys index"),
        ([{**ANSWER, "response": None}], "needs the keys index"),
        ([[]], "needs the keys index"),
    ],
)
def test_other_answers_are_refused(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        read_answers(write(tmp_path / "slow.jsonl", *lines))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("A/v/1.mp4", "A/v/1"),
        ("A/v/1", "A/v/1"),
        ("1.WAV", "1"),
        ("dia0.utt1", "dia0.utt1"),
        ("dia0.utt1.avi", "dia0.utt1"),
    ],
)
def test_a_clip_is_known_with_and_without_its_suffix(name, key):
    assert clip_key(name) == key


def test_clues_of_a_folder_and_a_file(tmp_path):
    (tmp_path / "in").mkdir()
    item = {"video_id": "A/x.mp4", "audio_clue": " loud "}
    (tmp_path / "in" / "a.json").write_text(json.dumps([item]))
    (tmp_path / "b.json").write_text(json.dumps([item, {"video_id": "A/y.wav", "audio_clue": "low"}]))
    assert read_clues([tmp_path / "in", tmp_path / "b.json"]) == {"A/x": "loud", "A/y": "low"}
    (tmp_path / "b.json").write_text(json.dumps([{**item, "audio_clue": "low"}]))
    with pytest.raises(InputError, match="this clue for 'A/x' differs"):
        read_clues([tmp_path / "in", tmp_path / "b.json"])


@pytest.mark.parametrize("content", ["{}", "[1]", '[{"video_id": "x"}]', "[", '[{"video_id": 1, "audio_clue": ""}]'])
def test_other_clues_are_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=r"a\.json"):
        read_clues([tmp_path / "a.json"])


def test_an_answer_gets_its_row_and_clue():
    (question,) = join([ANSWER], [ROW], {"A/x": "loud"})
    assert (question.task, question.labels, question.clue, question.clip) == ("SA", ("happy",), "loud", "/x.mp4")


@pytest.mark.parametrize(
    ("answer", "row", "clues", "message"),
    [
        ({"index": 1}, {}, {"A/x": "loud"}, "the shard has None"),
        ({"index": -1}, {}, {"A/x": "loud"}, "the shard has None"),
        ({"name": "A/y"}, {}, {"A/y": "loud"}, "give the shard that was answered"),
        ({"labels": ["sad"]}, {}, {"A/x": "loud"}, "give the shard that was answered"),
        ({}, {"extra_info": {"name": "A/x", "group": ""}}, {"A/x": "loud"}, "is not a task of MME-Emotion"),
        ({}, {"videos": []}, {"A/x": "loud"}, "the label or the video is missing"),
        ({}, {}, {}, "1 clips have no audio clue"),
        ({}, {}, {"A/x": ""}, "1 clips have no audio clue"),
    ],
)
def test_what_does_not_belong_together_is_refused(answer, row, clues, message):
    with pytest.raises(InputError, match=message):
        join([{**ANSWER, **answer}], [{**ROW, **row}], clues)
