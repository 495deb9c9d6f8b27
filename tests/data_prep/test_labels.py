"""Label files of others: nothing in them is ever run, and what is wrong is named."""

import json
import os
import pickle

import corpora
import numpy as np
import pytest

from data_prep import readers
from data_prep.clip import CorpusError
from data_prep.places import Root


class Bomb:
    """Unpickled, it would leave a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_in_an_npz_is_never_run(tmp_path):
    corpora.make("mosi", tmp_path)
    labels = tmp_path / "cmumosi-process" / "label.npz"
    np.savez(labels, test_corpus=np.array({"a": Bomb(tmp_path / "ran")}, dtype=object))
    with pytest.raises(CorpusError, match="refused"):
        list(readers.get("mosi").clips(Root(tmp_path)))
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Bomb(tmp_path / "ran")))
    assert (tmp_path / "ran").exists(), "the bomb is one"


def test_json_that_is_no_list_of_questions(tmp_path):
    corpora.make("mme_emotion", tmp_path)
    question = tmp_path / "SA" / "question" / "SA.json"
    for content, message in ((b"{}", "not a list"), (b"[", "not JSON"), (b"\xff", "not JSON")):
        question.write_bytes(content)
        with pytest.raises(CorpusError, match=message):
            list(readers.get("mme_emotion").clips(Root(tmp_path)))
    question.write_bytes(b'[1, {"label": "x"}, {"video_id": "../x", "label": "a"}, {"video_id": "y"}]')
    clips = [clip for clip in readers.get("mme_emotion").clips(Root(tmp_path)) if clip.group == "SA"]
    assert [clip.faults[0].kind for clip in clips] == ["name_bad", "name_bad", "name_bad", "label_empty"]


def question(root, *items):
    """MME-Emotion's clips of the task SA, which asks these."""
    corpora.put(root / "SA" / "question" / "SA.json", json.dumps(items).encode())
    return [clip for clip in readers.get("mme_emotion").clips(Root(root)) if clip.group == "SA"]


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        ({"video_id": "/etc/passwd", "label": "joy"}, "name_bad"),
        ({"video_id": "MAFW//video/00000.mp4", "label": "joy"}, "name_bad"),
        ({"video_id": "MAFW/../MAFW/video/00000.mp4", "label": "joy"}, "name_bad"),
        ({"video_id": "MAFW\\video\\00000.mp4", "label": "joy"}, "name_bad"),
        ({"video_id": "\0", "label": "joy"}, "name_bad"),
        ({"video_id": "\ud800", "label": "joy"}, "name_bad"),
        ({"video_id": "x" * 300, "label": "joy"}, "video_missing"),
        ({"video_id": "x/" * 3000 + "x", "label": "joy"}, "video_missing"),
        ({"video_id": "MAFW/video", "label": "joy"}, "video_missing"),
        ({"video_id": "MAFW/video/00000.mp4/x", "label": "joy"}, "video_missing"),
        ({"video_id": "MAFW/video/00000.mp4", "label": " , "}, "label_empty"),
        ({"video_id": "MAFW/video/00000.mp4", "label": ["joy"]}, "label_empty"),
        ({"video_id": "MAFW/video/00000.mp4", "label": "joy", "label_set": "joy"}, "label_bad"),
        ({"video_id": "MAFW/video/00000.mp4", "label": "joy", "label_set": [1]}, "label_bad"),
        ({"video_id": "MAFW/video/00000.mp4", "label": "j\ud800y"}, "label_not_utf8"),
        ({"video_id": "MAFW/video/00000.mp4", "label": "joy", "label_set": ["<video>"]}, "markup_in_text"),
    ],
)
def test_a_bad_question_takes_no_other_with_it(item, kind, tmp_path):
    corpora.make("mme_emotion", tmp_path)
    good = {"video_id": "MAFW/video/00000.mp4", "label": "joy"}
    bad, kept = question(tmp_path, item, {**good, "video_id": "MAFW/video/00001.mp4"})
    assert [fault.kind for fault in bad.faults] == [kind]
    assert "SA.json: item 1" in bad.faults[0].message
    assert not kept.faults


def test_a_question_twice_in_a_task(tmp_path):
    corpora.make("mme_emotion", tmp_path)
    item = {"video_id": "MAFW/video/00000.mp4", "label": "joy"}
    clips = question(tmp_path, item, item)
    assert [[fault.kind for fault in clip.faults] for clip in clips] == [[], ["name_duplicate"]]


def test_json_nested_without_end(tmp_path):
    corpora.make("mme_emotion", tmp_path)
    (tmp_path / "SA" / "question" / "SA.json").write_text("[" * 200_000)
    with pytest.raises(CorpusError, match="not JSON"):
        list(readers.get("mme_emotion").clips(Root(tmp_path)))


def test_a_task_without_questions_is_named(tmp_path):
    corpora.make("mme_emotion", tmp_path)
    (tmp_path / "IR" / "question" / "IR.json").unlink()
    with pytest.raises(
        CorpusError, match="IR/question: no question file; set --root to the folder that contains the tasks"
    ):
        list(readers.get("mme_emotion").clips(Root(tmp_path)))


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("meld", {"a": {"emo": 7}}, "7 is not in 0 … 6"),
        ("meld", {"a": {"emo": -1}}, "-1 is not in 0"),
        ("iemocap", {"Ses05F": {"emo": 1.0}}, "not in 0 … 3"),
        ("iemocap", {"Ses01F": {"emo": 1}}, "no name matches"),
        ("mosi", {"a": {"emo": 1}}, "no label has an entry 'val'"),
        ("mosi", {"a": {"val": float("nan")}}, "not a finite number"),
        ("mosi", {"a": {"val": "high"}}, "not a finite number"),
        ("mer2023", {}, "no label has an entry 'emo'"),
        ("mer2023", {"a": 3}, "no label has an entry 'emo'"),
        ("mer2023", {"a": {"emo": 3}}, "the label is the number 3"),
        ("mer2023", {"": {"emo": "sad"}}, "the name is empty"),
    ],
)
def test_npz_labels_that_cannot_be_read(name, labels, message, tmp_path):
    corpora.make(name, tmp_path)
    source = readers.get(name).labels
    corpora.npz(tmp_path / source.file, **{source.member: labels})
    with pytest.raises(CorpusError, match=message) as error:
        list(readers.get(name).clips(Root(tmp_path)))
    assert source.file in str(error.value)


def test_an_npz_that_unpacks_to_any_size_is_refused(tmp_path):
    corpora.make("mosi", tmp_path)
    labels = tmp_path / "cmumosi-process" / "label.npz"
    np.savez_compressed(labels, test_corpus=np.zeros(300 << 20, np.uint8))
    assert labels.stat().st_size < 1 << 20
    with pytest.raises(CorpusError, match="unpacked size is 300 MiB"):
        list(readers.get("mosi").clips(Root(tmp_path)))


def test_npz_files_that_hold_something_else(tmp_path):
    corpora.make("mosi", tmp_path)
    labels = tmp_path / "cmumosi-process" / "label.npz"
    corpora.npz(labels, train_corpus={"a": {"val": 1.0}})
    with pytest.raises(CorpusError, match="no label member 'test_corpus'; it has train_corpus"):
        list(readers.get("mosi").clips(Root(tmp_path)))
    labels.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(CorpusError, match="cannot be read as npz"):
        list(readers.get("mosi").clips(Root(tmp_path)))
    labels.unlink()
    with pytest.raises(CorpusError, match=r"label\.npz: no such file"):
        list(readers.get("mosi").clips(Root(tmp_path)))


def test_labels_of_an_npz_are_looked_at_too(tmp_path):
    corpora.make("mer2023", tmp_path)
    names = {"sample_1": "sad", "sample_2": "", "../x": "sad"}
    corpora.npz(
        tmp_path / "mer2023-dataset-process" / "label-6way.npz",
        test1_corpus={name: {"emo": word} for name, word in names.items()} | {"sample_3": {"emo": "<answer>"}},
    )
    clips = list(readers.get("mer2023").clips(Root(tmp_path)))
    kinds = [fault.kind for clip in clips for fault in clip.faults]
    assert kinds == ["label_empty", "name_bad", "markup_in_text", "video_missing", "audio_missing"]
