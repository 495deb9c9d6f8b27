"""The official mapping, to the last word, and what happens to a folder that is not quite one."""

import csv
import shutil

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recipe.mer_r1.method.wheel import EmotionWheels, WheelError
from recipe.mer_r1.method.wheels.official import FILES


@pytest.fixture
def folder(shared, tmp_path):
    """A private copy of the official folder, to damage."""
    copy = tmp_path / "wheels"
    copy.mkdir()
    for name in FILES:
        shutil.copyfile(shared / "emotion_wheel" / "mer2025" / name, copy / name)
    return copy


def test_every_fixture_word_on_every_wheel_and_level(shared, official):
    with (shared / "fixtures" / f"wheel_words_{official.rules}.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    wrong = [
        (row["word"], wheel, level, expected, found)
        for row in rows
        for wheel in official.ids
        for level in (1, 2)
        if (found := official.category(row["word"], wheel, level)) != (expected := row[f"{wheel}_level{level}"] or None)
    ]
    assert len(rows) > 3600
    assert wrong == []


def test_the_number_of_known_words(official):
    assert len(official.vocabulary) == {"mer2025": 7386, "mer2026": 7356}[official.rules]


def test_fear_under_both_rule_sets(official):
    """The first revision takes fear for a form of fearless, and brave comes before fearful; the later one fixed it."""
    expected = {
        "mer2025": ["scared", "happy", "joyful", "genius", "joyful"],
        "mer2026": ["scared", "fearful", "scared", "fear", "scared"],
    }[official.rules]
    assert [official.category("fear", wheel) for wheel in official.ids] == expected
    assert ("fearless" in official.explain("fear").forms) is (official.rules == "mer2025")


def test_identity_differs_between_the_revisions_and_follows_the_content(shared, folder):
    one = EmotionWheels.load(shared / "emotion_wheel" / "mer2025")
    assert one.identity["name"] == "mer2025"
    assert one.sha256 == EmotionWheels.load(folder).sha256
    assert one.sha256 != EmotionWheels.load(shared / "emotion_wheel" / "mer2026").sha256
    (folder / "format.csv").write_text(
        (folder / "format.csv").read_text(encoding="utf-8") + "zzz,zzz\n", encoding="utf-8"
    )
    assert one.sha256 != EmotionWheels.load(folder).sha256


def test_rules_default_to_mer2025(folder):
    assert EmotionWheels.load(folder).rules == "mer2025"
    assert EmotionWheels.load(str(folder), rules="mer2026").rules == "mer2026"


def test_explain_names_the_form_and_the_candidate(official):
    explanation = official.explain("Annoyed ")
    assert explanation.known
    assert "annoyed" in explanation.forms
    assert explanation.wheels["w2"].level1 == "angry"
    assert explanation.candidates == sorted(explanation.candidates)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(data=st.data())
def test_order_duplicates_case_and_blanks_do_not_matter(official, data):
    words = data.draw(st.lists(st.sampled_from(official.vocabulary), max_size=6))
    changed = [f" {word.upper()} " for word in reversed(words)] * 2
    for wheel in official.ids:
        for level in (1, 2):
            expected = {official.category(word, wheel, level) for word in words} - {None}
            assert official.categories(words, wheel, level) == expected
            # upper case does not come back for every letter ("ß"), so only words where it does are asked for
            if [word.upper().lower() for word in words] == words:
                assert official.categories(changed, wheel, level) == expected


# --- a folder that can't be used


def test_a_missing_folder(tmp_path):
    with pytest.raises(WheelError, match=r"wheel1\.xlsx: cannot be read.*synonym\.xlsx, format\.csv"):
        EmotionWheels.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(WheelError, match=name):
        EmotionWheels.load(folder)


@pytest.mark.parametrize("name", ["wheel3.xlsx", "synonym.xlsx"])
def test_a_broken_workbook_is_named(folder, name):
    (folder / name).write_bytes(b"not a workbook")
    with pytest.raises(WheelError, match=rf"{name}: is not a readable"):
        EmotionWheels.load(folder)


def write_sheet(path, rows):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)


@pytest.mark.parametrize("name", ["wheel2.xlsx", "synonym.xlsx"])
def test_an_unknown_header_is_shown_beside_the_expected_one(folder, name):
    write_sheet(folder / name, [["inner", "outer"], ["sad", "hurt"]])
    with pytest.raises(WheelError, match=rf"{name}: the header is inner,outer; expected "):
        EmotionWheels.load(folder)


def test_an_empty_workbook_is_named(folder):
    write_sheet(folder / "wheel2.xlsx", [])
    with pytest.raises(WheelError, match=r"wheel2\.xlsx: the header is missing"):
        EmotionWheels.load(folder)


def test_an_empty_wheel_is_named(folder):
    write_sheet(folder / "wheel4.xlsx", [["level1", "level2", "level3"]])
    with pytest.raises(WheelError, match=r"wheel4\.xlsx: the wheel is empty"):
        EmotionWheels.load(folder)


@pytest.mark.parametrize("row", [[None, None, "hurt"], ["Sad", "Hurt", None]])
def test_an_incomplete_wheel_row_is_named(folder, row):
    write_sheet(folder / "wheel5.xlsx", [["level1", "level2", "level3"], row])
    with pytest.raises(WheelError, match=r"wheel5\.xlsx, row 2"):
        EmotionWheels.load(folder)


def test_blank_cells_are_filled_and_blank_rows_left_out(folder):
    rows = [["level1", "level2", "level3"], [" Sad ", "Hurt", "Happy"], [None, None, " Joyful"], [None, None, None]]
    write_sheet(folder / "wheel5.xlsx", rows)
    wheels = EmotionWheels.load(folder)
    assert wheels.words(5, "sad") == ["sad", "hurt", "happy", "joyful"]


@pytest.mark.parametrize("text", ["word,forms\nsad,sadly\n", ""])
def test_a_wrong_format_header_is_named(folder, text):
    (folder / "format.csv").write_text(text, encoding="utf-8")
    with pytest.raises(WheelError, match=r"format\.csv: the header is"):
        EmotionWheels.load(folder)


def test_a_wrong_format_row_is_named(folder):
    (folder / "format.csv").write_text("name,format\nsad,sadly,sadness\n", encoding="utf-8")
    with pytest.raises(WheelError, match=r"format\.csv, line 2: 3 fields"):
        EmotionWheels.load(folder)


def test_forms_in_another_encoding_are_refused(folder):
    (folder / "format.csv").write_bytes("name,format\nblasé,x\n".encode("latin-1"))
    with pytest.raises(WheelError, match=r"format\.csv: is not UTF-8"):
        EmotionWheels.load(folder)


def test_an_entry_with_capitals_cannot_be_reached(folder):
    (folder / "format.csv").write_text("name,format\nsad,Sadly\n", encoding="utf-8")
    wheels = EmotionWheels.load(folder)
    assert wheels.category("Sadly", 1) is None
    assert wheels.category("sad", 1) == "sad"
