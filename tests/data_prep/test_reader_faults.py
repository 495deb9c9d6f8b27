"""Each fault of a clip by its kind; a bad row takes no other with it."""

import unicodedata

import corpora
import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_clip import OPENSETS, REASONS, SUBTITLES, add, faults, read

from data_prep.labels import EmptyOpensetError, parse_openset


@pytest.mark.parametrize(
    ("openset", "kind"),
    [
        ("[]", "label_empty"),
        ("", "label_empty"),
        ("nan", "label_empty"),
        ("[nan]", "label_empty"),
        ("\"[ , '']\"", "label_empty"),
        ("happy", "label_bad"),
        ('"[happy"', "label_bad"),
        ('"happy, sad"', "label_bad"),
        ("[<answer>]", "label_bad"),
        ("[don't care]", "label_bad"),
        ("[[happy]]", "label_bad"),
    ],
)
def test_labels(openset, kind, corpus):
    corpora.media(corpus, ["bad"])
    add(corpus, OPENSETS, f"bad,{openset}")
    add(corpus, SUBTITLES, "bad,,Words")
    assert faults(corpus) == [("bad", kind)]
    (message,) = (fault.message for clip in read(corpus) for fault in clip.faults)
    assert f"{corpus / OPENSETS}: row 2" in message


@pytest.mark.parametrize("name", ["../good", "a/b", "a\\b", "..", ".", "", "  ", "/etc/passwd"])
def test_names_that_leave_the_folder(name, corpus):
    add(corpus, OPENSETS, f'"{name}",[happy]')
    add(corpus, SUBTITLES, f'"{name}",,Words')
    assert [kind for _, kind in faults(corpus)] == ["name_bad"]


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ((), "subtitle_missing"),
        (("bad,,",), "subtitle_empty"),
        (("bad,字幕,NaN",), "subtitle_empty"),
        (("bad,,One", "bad,,Two"), "subtitle_ambiguous"),
        (("bad,,Look <video> here",), "markup_in_text"),
        (("bad,,<|im_end|>",), "markup_in_text"),
        (("bad,,</answer>",), "markup_in_text"),
    ],
)
def test_subtitles(lines, kind, corpus):
    corpora.media(corpus, ["bad"])
    add(corpus, OPENSETS, "bad,[sad]")
    for line in lines:
        add(corpus, SUBTITLES, line)
    assert faults(corpus) == [("bad", kind)]


def test_the_same_subtitle_twice_is_no_fault(corpus):
    add(corpus, SUBTITLES, "good,好,Well")
    assert faults(corpus) == []


def test_a_reason_with_a_tag_would_be_taken_for_an_answer(corpus):
    corpora.table(corpus / REASONS, "name,reason", "good,He smiles.</think><answer>sad</answer>")
    assert faults(corpus) == [("good", "markup_in_text")]


def test_a_row_that_is_not_utf8_takes_no_other_with_it(corpus):
    corpora.media(corpus, ["latin", "after"])
    for name in ("latin", "after"):
        add(corpus, OPENSETS, f"{name},[sad]")
    add(corpus, SUBTITLES, "latin,,Café", encoding="latin-1")
    add(corpus, SUBTITLES, "after,,Café")
    assert faults(corpus) == [("latin", "subtitle_not_utf8")]


def test_a_label_row_that_is_not_utf8(corpus):
    add(corpus, OPENSETS, "Zoë,[sad]", encoding="latin-1")
    assert faults(corpus) == [("", "label_not_utf8")]
    (message,) = (fault.message for clip in read(corpus) for fault in clip.faults)
    assert "row 2: 'Zo?'" in message


@pytest.mark.parametrize("stored", ["GOOD2.mp4", "good2.MP4", "good 2.mp4", unicodedata.normalize("NFD", "goodé.mp4")])
def test_a_file_whose_name_differs_in_case_blanks_or_form(stored, corpus):
    name = unicodedata.normalize("NFC", "goodé") if "2" not in stored else "good2"
    corpora.put(corpus / "video" / stored, corpora.mp4())
    corpora.put(corpus / "audio" / f"{name}.wav", corpora.wav())
    add(corpus, OPENSETS, f"{name},[sad]")
    add(corpus, SUBTITLES, f"{name},,Words")
    assert faults(corpus) == [(name, "name_mismatch")]


@given(st.lists(st.text("abc xyz-é", min_size=1).map(lambda word: " ".join(word.split())).filter(bool), min_size=1))
def test_opensets_come_back(words):
    assert parse_openset(f"[{', '.join(words)}]") == tuple(dict.fromkeys(words))


def test_an_openset_without_a_word_is_its_own_error():
    with pytest.raises(EmptyOpensetError):
        parse_openset("[]")
