"""Labels of other people's lists: the character and the row are named, and the words can be separated there."""

import json

import pytest
from test_build import corpus, opensets, replace, run  # noqa: F401 (a fixture)

from data_prep import readers, rows
from data_prep.clip import CorpusError
from data_prep.label_words import described, odd_character, settle, split
from data_prep.labels import parse_openset
from data_prep.places import Root
from recipe.mer_r1.method.answer import split_list
from recipe.mer_r1.method.wheel import EmotionWheels

ODD = {
    "[happy，excited]": ("，", "FULLWIDTH COMMA", ("happy", "excited")),
    "[happy、excited]": ("、", "IDEOGRAPHIC COMMA", ("happy", "excited")),
    "[happy; excited]": (";", "SEMICOLON", ("happy", "excited")),
    "[happy；excited]": ("；", "FULLWIDTH SEMICOLON", ("happy", "excited")),
    "[“happy”, ‘sad’]": ("“", "LEFT DOUBLE QUOTATION MARK", ("happy", "sad")),
    "[«happy», 「sad」]": ("«", "LEFT-POINTING DOUBLE ANGLE QUOTATION MARK", ("happy", "sad")),
    "[happy,\u200bsad]": ("\u200b", "ZERO WIDTH SPACE", ("happy", "sad")),
    "[hap\u200dpy, \ufeffsad]": ("\u200d", "ZERO WIDTH JOINER", ("happy", "sad")),
    "[happy\u200bsad]": ("\u200b", "ZERO WIDTH SPACE", ("happy", "sad")),
    "[Happy/Joyful]": ("/", "SOLIDUS", ("happy", "joyful")),
    "[happy／joyful]": ("／", "FULLWIDTH SOLIDUS", ("happy", "joyful")),
    "[happy|sad]": ("|", "VERTICAL LINE", ("happy", "sad")),
    "[happy & sad]": ("&", "AMPERSAND", ("happy", "sad")),
    "[happy·sad。]": ("·", "MIDDLE DOT", ("happy", "sad")),
    "［happy, sad］": ("［", "FULLWIDTH LEFT SQUARE BRACKET", ("happy", "sad")),
    "【happy，sad】": ("【", "LEFT BLACK LENTICULAR BRACKET", ("happy", "sad")),
    "[ｈａｐｐｙ, self‐conscious]": ("ｈ", "FULLWIDTH LATIN SMALL LETTER H", ("happy", "self-conscious")),
}


@pytest.mark.parametrize(("openset", "char", "name", "words"), [(key, *value) for key, value in ODD.items()])
def test_an_odd_character_is_named_and_the_words_can_be_separated_there(openset, char, name, words):
    labels = parse_openset(openset)
    first = next(label for label in labels if odd_character(label))
    assert odd_character(first) == char
    kept, problem = settle(labels, (), "refuse")
    assert kept == labels
    assert f"(U+{ord(char):04X} {name})" in problem
    assert "--odd-labels split" in problem
    assert settle(labels, (), "split") == (words, None)
    assert settle(labels, (), "keep") == (labels, None)


def test_usual_labels_have_no_odd_character():
    for word in (
        "happy",
        "self-conscious",
        "at ease",
        "déçu",
        "高兴",
        "happy.",
        "(happy)",
        "don't know",
        "don’t care",
        "a\u3000b",
        "naïve",
    ):
        assert odd_character(word) is None
    assert [word for word in EmotionWheels.builtin().vocabulary if odd_character(word)] == []


def test_invisible_characters_are_shown():
    assert described("\u200b") == "'\\u200b' (U+200B ZERO WIDTH SPACE)"
    assert described("，") == "'，' (U+FF0C FULLWIDTH COMMA)"


def test_a_class_of_the_corpus_is_left_alone():
    assert settle(("fear/anxiety", "a；b"), ("fear/anxiety", "joy"), "split") == (("fear/anxiety", "a", "b"), None)
    assert settle(("fear/anxiety",), ("fear/anxiety", "joy"), "refuse") == (("fear/anxiety",), None)


def test_words_that_appear_twice_are_kept_once_and_nothing_is_no_label():
    assert split(["happy，sad", "sad", "；"]) == ("happy", "sad")
    assert settle(("；",), (), "split")[1] == "the labels ['；'] contain no word; fill them in"


def test_predictions_are_read_by_the_official_rule():
    assert split_list("[happy，excited]") == ["happy，excited"]
    assert split_list("[Happy/Joyful; sad]") == ["Happy/Joyful; sad"]


def test_a_build_refuses_splits_or_keeps(corpus, tmp_path):  # noqa: F811
    replace(opensets(corpus), 'clip_03,"[happy, sad]"', 'clip_03,"[happy，excited]"')
    with pytest.raises(CorpusError) as caught:
        run(corpus, tmp_path / "out")
    assert "1 label_separator" in str(caught.value)
    assert "row 4: clip 'clip_03'" in str(caught.value)
    assert "'，' (U+FF0C FULLWIDTH COMMA)" in str(caught.value)
    listed = {"corpus": "mer_caption_plus", "group": "", "name": "clip_03", "kind": "label_separator", "message": ""}
    (tmp_path / "list.jsonl").write_text(json.dumps(listed) + "\n")
    manifest = run(corpus, tmp_path / "out", odd_labels="split", quarantine=tmp_path / "list.jsonl")
    assert manifest["odd_labels"] == "split"
    found = {
        row["extra_info"]["name"]: row["reward_model"]["ground_truth"]
        for row in rows.read(tmp_path / "out" / "rl.parquet")
    }
    assert found["clip_03"] == ["happy", "excited"]
    assert found["clip_04"] == ["happy", "sad"]
    assert len(found) == 12
    manifest = run(corpus, tmp_path / "out", odd_labels="refuse", quarantine=tmp_path / "list.jsonl")
    assert manifest["left_out_by_reason"] == {"quarantined_label_separator": 1}


def test_a_clip_says_so_to_check_as_well(corpus):  # noqa: F811
    replace(opensets(corpus), 'clip_03,"[happy, sad]"', 'clip_03,"[happy/sad]"')
    reader = readers.get("mer_caption_plus")
    (bad,) = [clip for clip in reader.clips(Root(corpus)) if clip.faults]
    assert (bad.name, bad.faults[0].kind) == ("clip_03", "label_separator")
    good = list(reader.with_odd_labels("split").clips(Root(corpus)))
    assert [clip.labels for clip in good if clip.name == "clip_03"] == [("happy", "sad")]
    assert not any(clip.faults for clip in good)
