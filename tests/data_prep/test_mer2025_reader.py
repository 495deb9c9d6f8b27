"""Reading MER2025's layout: every kind of broken input is named with file, row, key and the way out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from data_prep.cli import app
from data_prep.corpus import OPENSETS, REASONS, SUBTITLES, CorpusError, parse_openset, read_mer2025, read_with_report
from data_prep.media import encode_mp4, encode_wav
from data_prep.shards import SCHEMA, split_sft, write_shards

MP4 = encode_mp4([np.zeros((56, 56, 3), np.uint8)] * 2, 2, np.zeros(16000, np.float32), 16000)
WAV = encode_wav(np.zeros(16000, "<i2"), 16000)


class Corpus:
    """A small corpus on disk whose rows a test can break before it is written."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder = folder
        self.subtitles = [("name", "chinese", "english"), *((n, "你好", f"Hello {n}.") for n in names)]
        self.opensets = [("name", "openset"), *((n, '"[happy, excited]"') for n in names)]
        self.reasons = [("name", "reason"), *((n, f"{n} smiles.") for n in names)]
        for kind in ("video", "audio"):
            (folder / kind).mkdir(parents=True)
        for name in names:
            (folder / "video" / f"{name}.mp4").write_bytes(MP4)
            (folder / "audio" / f"{name}.wav").write_bytes(WAV)

    def write(self) -> Path:
        for file, rows in ((SUBTITLES, self.subtitles), (OPENSETS, self.opensets), (REASONS, self.reasons)):
            (self.folder / file).write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
        return self.folder


@pytest.fixture
def corpus(tmp_path):
    return Corpus(tmp_path / "corpus", ["a", "b", "c", "d"])


def fault_of(corpus: Corpus, check: str = "files"):
    """The only fault, checked to be an error by default and to cost exactly its row when skipped."""
    folder = corpus.write()
    clips, report = read_with_report(folder, on_bad="skip", check=check)
    assert len(report.faults) == 1
    fault = report.faults[0]
    assert report.read == len(corpus.opensets) - 1
    assert report.kept == len(clips) == report.read - 1
    with pytest.raises(CorpusError, match="--on-bad skip") as caught:
        read_mer2025(folder, check=check)
    assert fault.message in str(caught.value)
    return fault


def test_a_good_corpus(corpus):
    clips = read_mer2025(corpus.write(), check="decode")
    assert [clip.name for clip in clips] == ["a", "b", "c", "d"]
    assert clips[0].labels == ("happy", "excited")
    assert clips[0].subtitle == "Hello a."
    assert clips[0].reason == "a smiles."
    assert clips[0].video == corpus.folder / "video" / "a.mp4"


def test_paths_are_absolute(corpus, monkeypatch):
    monkeypatch.chdir(corpus.write().parent)
    assert read_mer2025("corpus")[0].audio.is_absolute()


def test_order_is_that_of_the_openset_file(corpus):
    corpus.opensets[1:] = reversed(corpus.opensets[1:])
    assert [clip.name for clip in read_mer2025(corpus.write())] == ["d", "c", "b", "a"]


def test_unlabelled_rows_and_media_do_not_matter(corpus):
    corpus.subtitles += [("x", "", ""), ("x", "", "twice")]
    corpus.reasons.append(("../y", "unused"))
    assert len(read_mer2025(corpus.write())) == 4


def test_words_that_look_like_missing_values_are_words(corpus):
    corpus.subtitles[1] = ("a", "", "None")
    corpus.subtitles[2] = ("b", "", "NA")
    assert [clip.subtitle for clip in read_mer2025(corpus.write())][:2] == ["None", "NA"]


@pytest.mark.parametrize("text", ["", "nan", "NaN", "  "])
def test_nan_subtitle(corpus, text):
    corpus.subtitles[2] = ("b", "喂", text)
    fault = fault_of(corpus)
    assert fault.kind == "nan_subtitle"
    assert f"{SUBTITLES}: row 2: clip 'b': column 'english' is empty" in fault.message


@pytest.mark.parametrize("text", ["[]", "", "[ , ]", "nan", "[nan]"])
def test_empty_openset(corpus, text):
    corpus.opensets[3] = ("c", f'"{text}"')
    fault = fault_of(corpus)
    assert fault.kind == "empty_openset"
    assert f"{OPENSETS}: row 3: clip 'c'" in fault.message


@pytest.mark.parametrize("text", ["happy, sad", "[happy", "[<answer>]", "[don't care]"])
def test_bad_openset(corpus, text):
    corpus.opensets[3] = ("c", f'"{text}"')
    assert fault_of(corpus).kind == "bad_openset"


def test_no_subtitle_row(corpus):
    del corpus.subtitles[2]
    fault = fault_of(corpus)
    assert fault.kind == "no_subtitle_row"
    assert "'b'" in fault.message


@pytest.mark.parametrize("bad", ["<video>", "<think>", "</answer>", "<|AUDIO|>", "<|im_end|>"])
def test_markup_in_texts(corpus, bad):
    corpus.subtitles[1] = ("a", "", f"look {bad} here")
    fault = fault_of(corpus)
    assert fault.kind == "markup_in_text"
    assert bad in fault.message
    corpus.subtitles[1] = ("a", "", "look here")
    corpus.reasons[4] = ("d", f"so {bad}")
    assert f"{REASONS}: row 4: clip 'd': column 'reason'" in fault_of(corpus).message


@pytest.mark.parametrize(("kind", "file"), [("missing_video", "video/b.mp4"), ("missing_audio", "audio/b.wav")])
def test_missing_media(corpus, kind, file):
    (corpus.folder / file).unlink()
    fault = fault_of(corpus)
    assert fault.kind == kind
    assert str(corpus.folder / file) in fault.message


def test_duplicate_openset_row_keeps_the_first(corpus):
    corpus.opensets.append(("a", "[sad]"))
    fault = fault_of(corpus)
    assert fault.kind == "duplicate_name"
    assert "row 5: name 'a' again (first in row 1)" in fault.message
    assert read_mer2025(corpus.folder, on_bad="skip")[0].labels == ("happy", "excited")


def test_contradicting_subtitles_cost_the_clip_and_equal_ones_do_not(corpus):
    corpus.subtitles.append(("a", "", "Hello a."))
    assert len(read_mer2025(corpus.write())) == 4
    corpus.subtitles.append(("a", "", "Good bye."))
    fault = fault_of(corpus)
    assert fault.kind == "duplicate_name"
    assert "rows 1 and 6" in fault.message


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "/abs", "..", "a\\b"])
def test_names_stay_inside_the_folder(corpus, name):
    corpus.opensets.append((name, "[sad]"))
    assert fault_of(corpus).kind == "bad_name"


@pytest.mark.parametrize(("file", "kind"), [("video/b.mp4", "undecodable_video"), ("audio/b.wav", "undecodable_audio")])
@pytest.mark.parametrize("content", [b"", b"rubbish"])
def test_undecodable_media(corpus, file, kind, content):
    (corpus.folder / file).write_bytes(content)
    assert len(read_mer2025(corpus.write())) == 4, "files are only decoded when asked"
    fault = fault_of(corpus, check="decode")
    assert fault.kind == kind
    assert str(corpus.folder / file) in fault.message


def test_a_clip_without_a_reason_is_read(corpus):
    del corpus.reasons[1]
    corpus.reasons[1] = ("b", "nan")
    assert [clip.reason for clip in read_mer2025(corpus.write())] == ["", "", "c smiles.", "d smiles."]


@pytest.mark.parametrize("file", [SUBTITLES, OPENSETS, REASONS])
@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_structural_faults_are_never_skipped(corpus, file, on_bad):
    path = corpus.write() / file
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace("name", "clip_id", 1), encoding="utf-8")
    with pytest.raises(CorpusError, match=f"{file}: no column 'name'; found .*clip_id"):
        read_mer2025(corpus.folder, on_bad=on_bad)
    path.write_bytes(whole.encode("utf-16"))
    with pytest.raises(CorpusError, match=f"{file}: not UTF-8"):
        read_mer2025(corpus.folder, on_bad=on_bad)
    path.write_bytes(b"")
    with pytest.raises(CorpusError, match=f"{file}: not a CSV file"):
        read_mer2025(corpus.folder, on_bad=on_bad)
    path.unlink()
    with pytest.raises(CorpusError, match=f"{file}: missing"):
        read_mer2025(corpus.folder, on_bad=on_bad)


@pytest.mark.parametrize("rows", [slice(1, 2), slice(1, None), slice(2, 3)], ids=["first", "every", "second"])
@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_unquoted_commas_never_move_the_columns(corpus, rows, on_bad):
    """pandas alone would take the names for row labels, find every reason empty, and say nothing."""
    corpus.reasons[rows] = [(name, f"{reason} He smiles, and laughs") for name, reason in corpus.reasons[rows]]
    with pytest.raises(CorpusError, match=f"{REASONS}: .*quote texts that hold commas"):
        read_mer2025(corpus.write(), on_bad=on_bad)


def test_quoted_commas_are_text(corpus):
    corpus.reasons[1] = ("a", '"He smiles, and laughs"')
    assert read_mer2025(corpus.write())[0].reason == "He smiles, and laughs"


def test_a_file_with_a_header_alone_is_read(corpus):
    del corpus.reasons[1:]
    assert {clip.reason for clip in read_mer2025(corpus.write())} == {""}


def test_a_byte_order_mark_is_no_column(corpus):
    path = corpus.write() / OPENSETS
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_mer2025(corpus.folder)) == 4


def test_no_such_folder(tmp_path):
    with pytest.raises(CorpusError, match="no such folder"):
        read_mer2025(tmp_path / "nowhere")


def test_nothing_usable_is_an_error_even_when_skipping(corpus):
    corpus.opensets = [("name", "openset"), ("a", "[]")]
    with pytest.raises(CorpusError, match="not one usable clip in 1 rows"):
        read_mer2025(corpus.write(), on_bad="skip")


def test_many_faults_are_counted_not_poured_out(tmp_path):
    corpus = Corpus(tmp_path / "c", [f"n{i}" for i in range(30)])
    corpus.opensets[1:26] = [(name, "[]") for name, _ in corpus.opensets[1:26]]
    with pytest.raises(CorpusError) as caught:
        read_mer2025(corpus.write())
    assert "25 faults (25 empty_openset)" in str(caught.value)
    assert "… and 15 more" in str(caught.value)


@given(st.lists(st.text("abcdefghij -", min_size=1), min_size=1))
def test_parse_openset_keeps_each_word_once_in_order(words):
    clean = [" ".join(word.split()) for word in words]
    clean = list(dict.fromkeys(word for word in clean if word))
    text = f"[{', '.join(words)}]"
    if clean:
        assert list(parse_openset(text)) == clean
    else:
        with pytest.raises(ValueError, match="holds no word"):
            parse_openset(text)


def test_parse_openset_takes_quoted_words_and_case():
    assert parse_openset(" ['Happy', \"sad\" , HAPPY] ") == ("happy", "sad")


def test_write_shards_names_what_it_leaves_out(corpus, tmp_path):
    corpus.opensets[3] = ("c", "[]")
    counts = write_shards(corpus.write(), tmp_path / "out", sft=1, seed=0, on_bad="skip")
    assert counts == {"sft": 1, "rl": 2}
    left_out = json.loads((tmp_path / "out" / "left_out.json").read_text(encoding="utf-8"))
    assert left_out["train"]["rows_read"] == 4
    assert left_out["train"]["rows_kept"] == 3
    assert left_out["train"]["left_out_by_kind"] == {"empty_openset": 1}
    assert left_out["train"]["left_out"][0]["name"] == "c"


def test_write_shards_schema_and_repetition(corpus, tmp_path):
    folder = corpus.write()
    for out in ("one", "two"):
        write_shards(folder, tmp_path / out, sft=2, seed=3, data_source="mine")
    for split in ("sft", "rl"):
        one, two = (tmp_path / out / f"{split}.parquet" for out in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
        table = pq.read_table(one)
        assert table.schema.equals(SCHEMA)
        assert set(table["data_source"].to_pylist()) == {"mine"}
    row = pq.read_table(tmp_path / "one" / "sft.parquet").to_pylist()[0]
    assert row["reward_model"] == {"style": "rule", "ground_truth": ["happy", "excited"]}


def test_a_clip_in_both_corpora(corpus, tmp_path):
    train = corpus.write()
    test = Corpus(tmp_path / "test", ["d", "e"]).write()
    with pytest.raises(CorpusError, match="in the training and in the test corpus, the first is 'd'"):
        write_shards(train, tmp_path / "out", sft=1, seed=0, test_corpus=test)
    counts = write_shards(train, tmp_path / "out", sft=1, seed=0, test_corpus=test, on_bad="skip")
    assert counts == {"sft": 1, "rl": 2, "test": 2}
    left_out = json.loads((tmp_path / "out" / "left_out.json").read_text(encoding="utf-8"))
    assert left_out["train"]["left_out_by_kind"] == {"in_test_too": 1}
    assert left_out["train"]["rows_kept"] == 3


def test_split_is_seeded_and_whole(corpus):
    clips = read_mer2025(corpus.write())
    sft, rl = split_sft(clips, 2, 0)
    assert (sft, rl) == split_sft(clips, 2, 0)
    assert sorted([*sft, *rl], key=lambda clip: clip.name) == clips
    assert len({tuple(clip.name for clip in split_sft(clips, 2, seed)[0]) for seed in range(20)}) > 2


def test_sft_takes_only_clips_with_a_reason(corpus):
    corpus.reasons[1] = ("a", "")
    clips = read_mer2025(corpus.write())
    sft, rl = split_sft(clips, 3, 0)
    assert [clip.name for clip in sft] == ["b", "c", "d"]
    assert [clip.name for clip in rl] == ["a"]
    with pytest.raises(CorpusError, match="--sft 4: the corpus has 4 clips, 3 with a reason"):
        split_sft(clips, 4, 0)


def test_shards_command(corpus, tmp_path):
    (corpus.folder / "video" / "a.mp4").write_bytes(b"")
    asked = ["shards", "--corpus", str(corpus.write()), "--out", str(tmp_path / "s"), "--sft", "1", "--check", "decode"]
    broken = CliRunner().invoke(app, asked)
    assert broken.exit_code == 1
    assert "a.mp4" in broken.output
    assert "--on-bad skip" in broken.output
    fine = CliRunner().invoke(app, [*asked, "--on-bad", "skip"])
    assert fine.exit_code == 0, fine.output
    assert "sft 1, rl 2" in fine.output
