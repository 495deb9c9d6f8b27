"""CSV files of a corpus: what is read, what is refused, and that no file fills memory."""

import csv
import subprocess
import sys

import corpora
import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_clip import FOLDER, OPENSETS, PEAK, REASONS, SUBTITLES, add, faults, read

from data_prep.clip import CorpusError
from data_prep.places import Root
from data_prep.tables import LONGEST_ROW, Names, TextTable, read_rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,chinese\ngood,好\n", r"no column 'english'; found \['name', 'chinese'\]"),
        ("name,english,english\ngood,Well,Well\n", "more than one column 'english'"),
        (
            "name,chinese,english\ngood,好,Well, well, well\n",
            "row 1: 5 fields for 3 columns .* put texts that contain commas in quotes",
        ),
        ("name,chinese,english\ngood,好,Well\nx,,Well, well\n", "row 2: 4 fields for 3 columns"),
        ('name,chinese,english\ngood,好,"Well\nx,,Well\n', "after row 0: not a CSV.*left open"),
        ("", "no column 'name'"),
        ("name,chinese,english\n".encode("utf-16").decode("latin-1"), "no column 'name'"),
    ],
)
def test_files_that_are_no_table(text, message, corpus):
    (corpus / SUBTITLES).write_text(text)
    with pytest.raises(CorpusError, match=message) as error:
        read(corpus)
    assert SUBTITLES in str(error.value)


def test_what_a_table_may_look_like(tmp_path):
    """As pandas reads it, which is what the corpora's own code uses."""
    path = tmp_path / "texts.csv"
    path.write_bytes(
        b'\xef\xbb\xbfname, chinese ,english\r\n\r\n00012,"a\nb","say ""no"", twice"\r\n   \r\n'
        b'short\r\n5" tall,x,5" tall,,\r\nlast,,NA'
    )
    assert list(read_rows(path, ("name", "english", "chinese"))) == [
        (1, ("00012", 'say "no", twice', "a\nb")),
        (2, ("short", "", "")),
        (3, ('5" tall', '5" tall', "x")),
        (4, ("last", "NA", "")),
    ]
    path.write_text("name,english\n")
    assert list(read_rows(path, ("name", "english"))) == []


@pytest.mark.parametrize("file", [OPENSETS, SUBTITLES, REASONS])
def test_a_column_without_its_name(file, corpus):
    (corpus / file).write_text((corpus / file).read_text().replace("name", "clip_id"))
    with pytest.raises(CorpusError, match=f"{file}: no column 'name'; found .*clip_id"):
        read(corpus)


@pytest.mark.parametrize("file", [OPENSETS, SUBTITLES, REASONS])
def test_a_missing_file_is_named(file, corpus):
    (corpus / file).unlink()
    with pytest.raises(CorpusError, match=file):
        read(corpus)


@pytest.mark.parametrize("quote", ["", '"'], ids=["one line", "an open quote over many lines"])
def test_a_giant_field_is_refused_before_it_fills_memory(quote, corpus):
    with (corpus / SUBTITLES).open("a") as file:
        file.write(f"giant,,{quote}")
        for _ in range(100):
            file.write("x" * 999_999 + (" " if not quote else "\n"))
    code = (
        f"{PEAK}import sys; from data_prep.tables import read_rows; from data_prep.clip import CorpusError\n"
        "before = peak()\n"
        f"try: list(read_rows(Path({str(corpus / SUBTITLES)!r}), ('name', 'english')))\n"
        "except CorpusError as error: print(error, file=sys.stderr)\n"
        "print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert f"{SUBTITLES}: after row 1: not a CSV file" in done.stderr
    assert int(done.stdout) < 30_000, "kB of growth"


@pytest.mark.parametrize("line", ["x" * 999, "x"])
def test_a_giant_row_of_short_lines_is_refused(line, corpus):
    text = "\n".join([line] * (LONGEST_ROW // len(line) + 2))
    add(corpus, SUBTITLES, f'giant,,"{text}"')
    with pytest.raises(CorpusError, match=r"after row 1: not a CSV file .*(limit|over)"):
        read(corpus)


def test_a_long_reason_is_read(corpus):
    text = "He smiles and looks aside. " * 4_000
    corpora.table(corpus / REASONS, "name,reason", f'good,"{text}"')
    assert [clip.reason for clip in read(corpus)] == [text.strip()]


def test_a_nul_costs_its_row_alone(corpus):
    corpora.media(corpus, ["nul"])
    add(corpus, OPENSETS, "nul,[sad]")
    add(corpus, OPENSETS, "n\0l,[sad]")
    add(corpus, SUBTITLES, "nul,,a\0b")
    assert faults(corpus) == [("nul", "subtitle_not_utf8"), ("", "label_not_utf8")]


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
"""NUL, line ends, quotes, commas and all scripts among them."""


@given(st.dictionaries(words.map(str.strip).filter(bool), words, max_size=20))
def test_texts_come_back_by_name(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("texts")
    with (folder / "texts.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("name", "text"), *texts.items()])
    found = TextTable("texts.csv", "text").at(Root(folder))
    for name, text in texts.items():
        tidy = " ".join(text.split())
        assert [text for _, text in found.get(name)] == ["" if tidy.lower() == "nan" else tidy]
    assert found.get("no such name at all, anywhere") == []
    found.close()


@given(st.lists(st.text(max_size=5)))
def test_a_name_is_first_once(names):
    """Any text, lone surrogates included: JSON can hold them."""
    seen, met = Names(), {}
    for row, name in enumerate(names):
        assert seen.first(name, row) == met.setdefault(name, row)
    seen.close()


@pytest.mark.slow
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
