"""docs/corpora.md: its example is a reader that works, its table names the readers there are."""

import re
from pathlib import Path

import corpora
import pytest

from data_prep import readers
from data_prep.places import Root

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "corpora.md").read_text(encoding="utf-8")
CHECK_PAGE = (PROJECT / "docs" / "check.md").read_text(encoding="utf-8")


def test_the_example_reads_a_corpus(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(code.splitlines()) < 50
    example: dict = {"__name__": "street"}
    exec(compile(code, "street.py", "exec", dont_inherit=True), example)
    for name in ("one", "two"):
        corpora.put(tmp_path / "clips" / f"{name}.mp4", corpora.mp4())
    corpora.table(tmp_path / "labels.csv", "id,emotion,score", "one,Happy,0.5", "two,sad,much")
    corpora.table(tmp_path / "speech.csv", "id,text", "one,Hello", "two,Well")
    good, bad = example["READER"].clips(Root(tmp_path))
    assert (good.name, good.labels, good.value, good.subtitle, good.faults) == ("one", ("happy",), 0.5, "Hello", ())
    assert [(fault.kind, fault.name) for fault in bad.faults] == [("label_bad", "two")]


def test_the_table_names_every_reader_and_its_size():
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row[1])} == set(readers.NAMES)
    for name in readers.NAMES:
        if published := readers.get(name).published:
            assert f"{published:,}" in next(row[4] for row in rows if f"`{name}`" in row[1])


@pytest.mark.parametrize("name", [name for name in readers.NAMES if name not in ("micro", "mme_emotion")])
def test_the_tree_shows_where_each_file_lies(name):
    reader = readers.get(name)
    folder, video = reader.video.folder.split("/")
    (entry,) = re.findall(rf"── {folder}/ .*(?:\n│ .*)*", PAGE)
    for part in (
        f" {video}/NAME{', '.join(reader.video.suffixes)} ",
        f" {reader.audio.folder.split('/')[1]}/NAME.wav ",
    ):
        assert part in entry
    for table in filter(None, (reader.subtitles, reader.reasons)):
        assert f"{table.file.split('/')[1]} ({table.column})" in entry


def test_every_fault_is_explained():
    files = (PROJECT / "data_prep" / f"{name}.py" for name in ("reader", "labels", "build", "drops"))
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    kinds = set(re.findall(r'[(=] ?f?"((?:\{kind\}|name|label|outside|markup|in)_[a-z0-9_]+)"', source)) - {"label_set"}
    assert len(kinds) >= 12, "the pattern finds them"
    for kind in kinds:
        spelled = [kind.replace("{kind}", one) for one in ("video", "subtitle")]
        assert any(f"`{one}`" in PAGE + CHECK_PAGE for one in spelled), kind
