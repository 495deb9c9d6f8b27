"""Bad and hostile corpora: each fault by its kind, each refusal by its reason; nothing of a file is ever run."""

import os
import pickle
import subprocess
import sys
import unicodedata

import corpora
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep import readers
from data_prep.clip import CorpusError
from data_prep.labels import EmptyOpensetError, parse_openset
from data_prep.places import MediaFolder, Root
from data_prep.tables import LONGEST_FIELD, TextTable

FOLDER = "mer2025-dataset"
OPENSETS, SUBTITLES, REASONS = (
    "track2_train_mercaptionplus.csv",
    "subtitle_chieng.csv",
    "track3_train_mercaptionplus.csv",
)


PEAK = (
    "from pathlib import Path\n"
    "def peak():\n"
    "    # Not ru_maxrss: a child of fork and exec starts with its parent's.\n"
    "    return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
)
"""Peak memory of this process in kB."""


@pytest.fixture
def corpus(tmp_path):
    """MER-Caption+ with one good clip, "good"."""
    folder = tmp_path / "root" / FOLDER
    corpora.media(folder, ["good"])
    corpora.table(folder / OPENSETS, "name,openset", "good,[happy]")
    corpora.table(folder / SUBTITLES, "name,chinese,english", "good,好,Well")
    corpora.table(folder / REASONS, "name,reason", "good,He smiles.")
    return folder


def read(corpus, **options):
    return list(readers.get("mer_caption_plus").clips(Root(corpus.parent, **options)))


def faults(corpus, **options):
    """(name, kind) of every fault."""
    return [(fault.name, fault.kind) for clip in read(corpus, **options) for fault in clip.faults]


def add(corpus, file, line, encoding="utf-8"):
    with (corpus / file).open("ab") as out:
        out.write((line + "\n").encode(encoding))


@pytest.mark.parametrize(
    ("openset", "kind"),
    [
        ("[]", "label_empty"),
        ("", "label_empty"),
        ("nan", "label_empty"),
        ("\"[ , '']\"", "label_empty"),
        ("happy", "label_bad"),
        ('"[happy"', "label_bad"),
        ("[<answer>]", "label_bad"),
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


@pytest.mark.parametrize("stored", ["GOOD2.mp4", "good 2.mp4", unicodedata.normalize("NFD", "goodé.mp4")])
def test_a_file_whose_name_differs_in_case_blanks_or_form(stored, corpus):
    name = {"GOOD2.mp4": "good2", "good 2.mp4": "good2"}.get(stored, unicodedata.normalize("NFC", "goodé"))
    corpora.put(corpus / "video" / stored, corpora.mp4())
    corpora.put(corpus / "audio" / f"{name}.wav", corpora.wav())
    add(corpus, OPENSETS, f"{name},[sad]")
    add(corpus, SUBTITLES, f"{name},,Words")
    assert faults(corpus) == [(name, "name_mismatch")]


def test_links_out_of_the_root_are_refused_unless_allowed(corpus, tmp_path):
    outside = tmp_path / "disk" / "good.mp4"
    corpora.put(outside, corpora.mp4())
    (corpus / "video" / "good.mp4").unlink()
    (corpus / "video" / "good.mp4").symlink_to(outside)
    assert faults(corpus) == [("good", "outside_root")]
    assert faults(corpus, links_to=(tmp_path / "disk",)) == []


def test_a_media_folder_that_is_a_link_out_is_refused_unless_allowed(corpus, tmp_path):
    (corpus / "video").rename(tmp_path / "disk")
    (corpus / "video").symlink_to(tmp_path / "disk")
    with pytest.raises(CorpusError, match="--links-to"):
        read(corpus)
    assert faults(corpus, links_to=(tmp_path / "disk",)) == []


def test_a_folder_in_the_middle_of_a_name_may_not_lead_out(tmp_path):
    """MME-Emotion's names are paths."""
    corpora.make("mme_emotion", tmp_path / "root")
    (tmp_path / "root" / "MAFW" / "video").rename(tmp_path / "disk")
    (tmp_path / "root" / "MAFW" / "video").symlink_to(tmp_path / "disk")
    clips = list(readers.get("mme_emotion").clips(Root(tmp_path / "root")))
    assert {fault.kind for clip in clips for fault in clip.faults} == {"outside_root"}


def test_links_inside_the_root_are_fine(corpus):
    (corpus / "video" / "good.mp4").rename(corpus / "video" / "other.mp4")
    (corpus / "video" / "good.mp4").symlink_to("other.mp4")
    assert faults(corpus) == []


@pytest.mark.parametrize("relative", ["../x", "/etc", "a/../../x", "a\\b"])
def test_paths_in_a_declaration_stay_inside(relative, tmp_path):
    with pytest.raises(CorpusError, match="leaves"):
        Root(tmp_path).place(relative)


def test_an_archive_is_named_and_not_unpacked(corpus):
    (corpus / "video" / "good.mp4").unlink()
    (corpus / "video").rmdir()
    corpora.put(corpus / "video.zip", b"PK")
    with pytest.raises(CorpusError, match=r"unpack .*video\.zip"):
        read(corpus)
    with pytest.raises(CorpusError, match="--root"):
        MediaFolder("nowhere", (".mp4",)).at(Root(corpus))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,chinese\ngood,好\n", "no column 'english'"),
        ("name,chinese,english\ngood,好,Well, well, well\n", "row 1: more fields"),
        ("name,chinese,english\ngood,好,Well\nx,,Well, well\n", "not a CSV"),
        ('name,chinese,english\ngood,好,"Well\n', "not a CSV"),
        ("", "not a CSV"),
    ],
)
def test_files_that_are_no_table(text, message, corpus):
    (corpus / SUBTITLES).write_text(text)
    with pytest.raises(CorpusError, match=message) as error:
        read(corpus)
    assert SUBTITLES in str(error.value)


@pytest.mark.parametrize("file", [OPENSETS, SUBTITLES, REASONS])
def test_a_missing_file_is_named(file, corpus):
    (corpus / file).unlink()
    with pytest.raises(CorpusError, match=file):
        read(corpus)


def test_a_giant_field_is_refused_before_it_fills_memory(corpus):
    """100 MB in one line, and over many lines."""
    with (corpus / SUBTITLES).open("a") as file:
        file.write("giant,,")
        for _ in range(100):
            file.write("x" * 1_000_000)
        file.write("\n")
    code = (
        f"{PEAK}import sys; from data_prep.tables import read_rows; from data_prep.clip import CorpusError\n"
        "before = peak()\n"
        f"try: list(read_rows(Path({str(corpus / SUBTITLES)!r}), ('name', 'english')))\n"
        "except CorpusError as error: print(error, file=sys.stderr)\n"
        "print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert f"line 3 is longer than {LONGEST_FIELD}" in done.stderr
    assert int(done.stdout) < 30_000, "kB of growth"


def test_a_giant_quoted_field_over_many_lines_is_refused(corpus):
    text = "\n".join(["x" * 1_000] * (LONGEST_FIELD // 1_000 + 2))
    add(corpus, SUBTITLES, f'giant,,"{text}"')
    with pytest.raises(CorpusError, match="row 2: a field of over"):
        read(corpus)


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


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=20)


@given(st.dictionaries(words.map(str.strip).filter(bool), words, max_size=20))
def test_texts_come_back_by_name(tmp_path_factory, texts):
    import csv

    folder = tmp_path_factory.mktemp("texts")
    with (folder / "texts.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("name", "text"), *texts.items()])
    found = TextTable("texts.csv", "text").at(Root(folder))
    for name, text in texts.items():
        tidy = " ".join(text.split())
        assert [text for _, text in found.get(name)] == ["" if tidy.lower() == "nan" else tidy]
    assert found.get("no such name at all, anywhere") == []
    found.close()


@given(st.lists(st.text("abc xyz-é", min_size=1).map(lambda word: " ".join(word.split())).filter(bool), min_size=1))
def test_opensets_come_back(words):
    assert parse_openset(f"[{', '.join(words)}]") == tuple(dict.fromkeys(words))


def test_an_openset_without_a_word_is_its_own_error():
    with pytest.raises(EmptyOpensetError):
        parse_openset("[]")


def test_reading_holds_no_rows(tmp_path):
    """Peak memory at 60,000 rows against 2,000, each in a process of its own; media are missing, which is no matter."""
    peaks = []
    for rows in (2_000, 60_000):
        folder = tmp_path / str(rows) / FOLDER
        (folder / "video").mkdir(parents=True)
        (folder / "audio").mkdir()
        text = "He looks down and speaks slowly. " * 12
        corpora.table(folder / OPENSETS, "name,openset", *(f"clip_{i},[sad]" for i in range(rows)))
        corpora.table(folder / SUBTITLES, "name,chinese,english", *(f"clip_{i},,Over" for i in range(rows)))
        corpora.table(folder / REASONS, "name,reason", *(f"clip_{i},{text}" for i in range(rows)))
        code = (
            f"{PEAK}from data_prep import readers; from data_prep.places import Root\n"
            f"n = sum(1 for _ in readers.get('mer_caption_plus').clips(Root(Path({str(folder.parent)!r}))))\n"
            "print(n, peak())"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        count, peak = map(int, done.stdout.split())
        assert count == rows
        peaks.append(peak / 1024)
    assert peaks[1] - peaks[0] < 25, f"MB: {peaks}"
