"""docs/corpora.md: its example runs, its tables are whole."""

import json
import re
from pathlib import Path

import corpora
import pytest

from data_prep import readers, rows
from data_prep.build import Options, build
from data_prep.clip import CorpusError
from data_prep.places import Root

PROJECT = Path(__file__).parents[2]
DOC = (PROJECT / "docs" / "corpora.md").read_text(encoding="utf-8")


@pytest.fixture
def diaries(tmp_path):
    """The example's reader, and a corpus for it with a line that is not JSON."""
    (code,) = re.findall(r"```python\n(.*?)```", DOC, flags=re.DOTALL)
    namespace = {"__name__": "diaries"}
    exec(compile(code, "docs/corpora.md", "exec", dont_inherit=True), namespace)
    folder = tmp_path / "diaries"
    corpora.put(folder / "clips" / "mon_01.mp4", corpora.mp4())
    corpora.put(folder / "clips" / "tue_01.mkv", corpora.mp4())
    labels = [{"clip": "mon_01", "emotions": ["Happy", "tired"]}, {"clip": "tue_01", "emotions": ["sad"]}]
    corpora.table(folder / "emotions.jsonl", *map(json.dumps, labels), '{"clip": "wed_01"', '{"clip": "thu_01"}')
    corpora.table(folder / "said.csv", "clip,text", 'mon_01,"Well, yes"', "tue_01,No")
    return namespace["READER"], Root(tmp_path)


def test_the_example_builds(diaries, tmp_path):
    reader, root = diaries
    manifest = build(reader, root, tmp_path / "out", Options(on_bad="skip"))
    found = {row["extra_info"]["name"]: row for row in rows.read(tmp_path / "out" / "rl.parquet")}
    assert {name: row["reward_model"]["ground_truth"] for name, row in found.items()} == {
        "mon_01": ["happy", "tired"],
        "tue_01": ["sad"],
    }
    assert found["tue_01"]["videos"] == found["tue_01"]["audios"] == ["diaries/clips/tue_01.mkv"]
    assert "Well, yes" in found["mon_01"]["prompt"][0]["content"]
    assert manifest["left_out_by_reason"] == {"label_bad": 2}


def test_the_example_names_its_bad_lines(diaries, tmp_path):
    reader, root = diaries
    with pytest.raises(CorpusError, match=r"emotions\.jsonl: line 3: JSONDecodeError.*\n.*line 4: KeyError"):
        build(reader, root, tmp_path / "out", Options())


def test_every_corpus_has_a_row_with_its_folder_and_count():
    table = {row.split("`")[1]: row for row in DOC.split("\n") if row.startswith("| `")}
    for name in readers.NAMES:
        reader = readers.get(name)
        assert not reader.published or f"| {reader.published:,} |" in table[name], name
        if name not in ("micro", "mme_emotion"):
            folder, file = reader.inputs(Root(PROJECT))[0].relative_to(PROJECT).parts
            assert f"| `{folder}` | `{file}`" in table[name]
            assert reader.video.folder.removeprefix(f"{folder}/") + "/*" + reader.video.suffixes[0] in table[name]


def test_every_fault_is_explained():
    source = "".join(
        (PROJECT / "data_prep" / f"{name}.py").read_text(encoding="utf-8")
        for name in ("reader", "labels", "build", "drops")
    )
    kinds = set(re.findall(r'[(=] ?f?"((?:\{kind\}|name|label|outside|markup|in)_[a-z0-9_]+)"', source)) - {"label_set"}
    assert len(kinds) >= 12, "the pattern finds them"
    for kind in kinds:
        spelled = {kind.replace("{kind}", one) for one in ("video", "subtitle")}
        assert any(f"`{one}`" in DOC for one in spelled), kind
