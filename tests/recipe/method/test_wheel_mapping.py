"""`wheel_mapping.npz`: the same categories as the xlsx files, and nothing but plain data is read."""

import csv
import os
import random
from collections import defaultdict

import numpy as np
import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recipe.mer_r1.method.wheel import EmotionWheels, WheelError, load_wheels

RUNS = 8


def made_up(seed):
    """Wheels, runs of synonyms and forms out of few words, so that words repeat, overlap and contradict each other."""
    chance = random.Random(seed)
    words = [f"w{number}" for number in range(30)]
    wheels = [
        [
            (inner, middle, outer)
            for inner in chance.sample(words, 3)
            for middle in chance.sample(words, 2)
            for outer in chance.sample(words, 2)
        ]
        for _ in range(5)
    ]
    runs = [{word: chance.sample(words, chance.randint(0, 4)) for word in words[:20]} for _ in range(RUNS)]
    forms = {word: [f"{word}s", *chance.sample(words, chance.randint(0, 2))] for word in chance.sample(words, 25)}
    return wheels, runs, forms


def write_folder(folder, wheels, runs, forms):
    """The xlsx and csv files of the official layout."""
    folder.mkdir()
    for number, rows in enumerate(wheels, start=1):
        book = openpyxl.Workbook(write_only=True)
        sheet = book.create_sheet("Sheet1")
        for row in [("level1", "level2", "level3"), *((a.capitalize(), b, f" {c}") for a, b, c in rows)]:
            sheet.append(row)
        book.save(folder / f"wheel{number}.xlsx")
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Sheet1")
    sheet.append([f"{kind}_run{run}" for run in range(1, RUNS + 1) for kind in ("word", "synonym")])
    for word in runs[0]:
        sheet.append([cell for run in runs for cell in (word, ", ".join(run[word]))])
    book.save(folder / "synonym.xlsx")
    with (folder / "format.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("name", "format"), *((name, ",".join(forms[name])) for name in forms)])


def mapping(wheels, runs, forms):
    """What MER2026's file would hold: written from the rules of docs/wheels.md, not from the project's code."""
    format_mapping, raw_mapping = defaultdict(list), defaultdict(list)
    for name, listed in forms.items():
        for form in [*listed, name]:
            format_mapping[form].append(name)
    for run in runs:
        for word, synonyms in run.items():
            for synonym in [word, *synonyms]:
                raw_mapping[synonym].append(word)
    whole = {}
    for number, rows in enumerate(wheels, start=1):
        level1, level2 = {}, {}
        for inner, middle, outer in rows:
            level1 |= {inner: inner}
            level1[middle] = inner
            level1[outer] = inner
        for inner, middle, outer in rows:
            level2[inner] = sorted(second for first, second, _ in rows if first == inner)[0]
            level2[middle] = middle
            level2[outer] = middle
        whole[f"wheel{number}"] = {"level1": level1, "level2": level2}
    return {"format_mapping": {**format_mapping}, "raw_mapping": {**raw_mapping}, "wheel_map_whole": whole}


def write_npz(path, content):
    """As the organisers save it: each dict pickled in a 0-d array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{key: np.array(value, dtype=object) for key, value in content.items()})
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8)
@given(seed=st.integers(0, 2**32))
def test_both_forms_give_every_word_the_same_categories(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("wheels")
    write_folder(folder / "xlsx", *made_up(seed))
    write_npz(folder / "npz" / "wheel_mapping.npz", mapping(*made_up(seed)))
    sheets, npz = EmotionWheels.load(folder / "xlsx"), EmotionWheels.load(folder / "npz" / "wheel_mapping.npz")
    assert npz.vocabulary == sheets.vocabulary
    assert len(npz.vocabulary) > 30
    for word in [*npz.vocabulary, "w29", "nowhere"]:
        for level in (1, 2):
            found = [[wheels.category(word, wheel, level) for wheel in wheels.ids] for wheels in (sheets, npz)]
            assert found[0] == found[1], word
        assert npz.explain(word) == sheets.explain(word)
    for wheel in npz.ids:
        for level in (1, 2):
            assert {*npz.all_categories(wheel, level)} == {*sheets.all_categories(wheel, level)}
            for category in npz.all_categories(wheel, level):
                assert {*npz.words(wheel, category, level)} == {*sheets.words(wheel, category, level)}
                assert npz.mapped_words(wheel, category, level) == sheets.mapped_words(wheel, category, level)


@pytest.fixture
def content():
    """Of a file that can be used."""
    return mapping(*made_up(0))


def test_the_file_or_its_folder_can_be_named(tmp_path, content):
    path = write_npz(tmp_path / "emotion_wheel" / "wheel_mapping.npz", content)
    by_file, by_folder, renamed = (
        load_wheels(path),
        load_wheels(str(path.parent)),
        load_wheels(write_npz(path.with_name("mine.npz"), content)),
    )
    assert by_file.identity == by_folder.identity
    assert by_file.identity["name"] == "emotion_wheel"
    assert by_file.identity["version"] == "official, npz"
    assert renamed.sha256 == by_file.sha256
    (path.parent / "wheel1.xlsx").write_bytes(b"")
    with pytest.raises(WheelError, match=r"wheel2\.xlsx: cannot be read"):
        load_wheels(path.parent)  # half a folder of xlsx files is a mistake, not a reason to take the other file


class Trap:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("trapped",)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"raw_mapping": None}, "raw_mapping: is not a dict with words as keys, but NoneType"),
        ({"format_mapping": {"happy": "happy"}}, "format_mapping: 'happy' is not followed by a list of words"),
        ({"format_mapping": {1: ["happy"]}}, "format_mapping: is not a dict with words as keys"),
        ({"wheel_map_whole": {"wheel1": {}}}, "wheel_map_whole: has wheel1; expected wheel1, wheel2"),
        ({"raw_mapping": Trap()}, r"raw_mapping\.npy: refused, it needs \w+\.mkdir; only numpy arrays"),
    ],
)
def test_what_is_not_a_mapping_is_refused_by_name(tmp_path, monkeypatch, content, change, says):
    monkeypatch.chdir(tmp_path)
    path = write_npz(tmp_path / "wheel_mapping.npz", content | change)
    with pytest.raises(WheelError, match=says) as refused:
        EmotionWheels.load(path)
    assert str(path) in str(refused.value)
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize(
    ("wheel", "says"),
    [
        ({"level1": {"sad": "sad"}}, "wheel3: no level2; it has level1"),
        ({"level1": {"sad": 1}, "level2": {"sad": "sad"}}, "level1: the category of 'sad' is not a word"),
        ({"level1": {"sad": "sad"}, "level2": {}}, "wheel3: 'sad' is on one of its levels only"),
        ({"level1": {}, "level2": {}}, "wheel3: the wheel is empty"),
    ],
)
def test_a_wheel_that_is_not_whole_is_refused_by_name(tmp_path, content, wheel, says):
    content["wheel_map_whole"]["wheel3"] = wheel
    with pytest.raises(WheelError, match=says):
        EmotionWheels.load(write_npz(tmp_path / "wheel_mapping.npz", content))


def test_a_file_that_is_missing_or_of_another_kind_is_refused(tmp_path):
    with pytest.raises(WheelError, match="cannot be read"):
        EmotionWheels.load(tmp_path / "wheel_mapping.npz")
    np.savez(tmp_path / "answers.npz", filenames=["one"], fileitems=["[sad]"])
    with pytest.raises(WheelError, match="no key format_mapping, raw_mapping, wheel_map_whole; it has filenames"):
        EmotionWheels.load(tmp_path / "answers.npz")
