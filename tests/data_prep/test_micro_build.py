"""Making the corpus: same bytes whatever the workers, resumable, idempotent, never over something else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from itertools import cycle
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from data_prep.cli import app
from data_prep.clip import CorpusError
from data_prep.micro.build import build
from data_prep.micro.cues import CHANNELS, CUE_STATES
from data_prep.micro.plan import draw_plan
from data_prep.micro.reasons import GENERATORS
from data_prep.places import Root
from data_prep.readers.micro import BASE, READER
from recipe.mer_r1.method.answer import build_prompt

pytestmark = pytest.mark.slow

IMPERFECT = GENERATORS[2]["imperfect"]
SMALL = {"clips": 9, "test_clips": 3, "base_clips": 4, "seed": 5, "sft": 6, "voice": "auto"}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def times_of(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A corpus made with two workers; tests must not change it."""
    out = tmp_path_factory.mktemp("micro") / "corpus"
    build(out, **SMALL, workers=2)
    return out


@pytest.fixture
def copy(corpus, tmp_path):
    return Path(shutil.copytree(corpus, tmp_path / "copy"))


def test_layout(corpus):
    assert {path.name for path in corpus.iterdir()} == {"base", "train", "test", "shards", "README.md", "manifest.json"}
    for split, count, reader in (("base", 4, BASE), ("train", 9, READER), ("test", 3, READER.test)):
        assert len(list((corpus / split / "video").glob("*.mp4"))) == count
        assert len(list((corpus / split / "audio").glob("*.wav"))) == count
        clips = list(reader.clips(Root(corpus)))
        assert [clip.name for clip in clips] == [f"{split}_{i:05d}" for i in range(count)]
        assert all(clip.reason and clip.subtitle and clip.labels and not clip.faults for clip in clips)


def test_same_bytes_with_another_number_of_workers(corpus, tmp_path):
    """Shards say where their paths start, so the second corpus is made at the place of the first."""
    first = bytes_of(corpus)
    kept = tmp_path / "kept"
    shutil.move(corpus, kept)
    try:
        build(corpus, **SMALL, workers=1)
        second = bytes_of(corpus)
    finally:
        shutil.rmtree(corpus, ignore_errors=True)
        shutil.move(kept, corpus)
    assert {Path(name).suffix for name in first} == {".mp4", ".wav", ".csv", ".parquet", ".json", ".jsonl", ".md"}
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_another_seed_gives_other_clips(corpus, tmp_path):
    manifest = build(
        tmp_path / "other", **{**SMALL, "clips": 2, "test_clips": 1, "base_clips": 1, "sft": 1, "seed": 6}, workers=1
    )
    name = "train/audio/train_00000.wav"
    assert (tmp_path / "other" / name).read_bytes() != (corpus / name).read_bytes()
    assert manifest["made"] == 4


def test_a_second_run_does_nothing(corpus):
    before = times_of(corpus)
    assert build(corpus, **SMALL, workers=2)["made"] == 0
    assert times_of(corpus) == before


def test_an_interrupted_run_goes_on(copy, corpus):
    whole = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**whole, "complete": False}))
    (copy / "train" / "video" / "train_00003.mp4").unlink()
    (copy / "train" / "audio" / "train_00004.wav.77.part").write_bytes(b"half")
    shutil.rmtree(copy / "shards")
    kept = (copy / "train" / "video" / "train_00001.mp4").stat().st_mtime_ns
    assert build(copy, **SMALL, workers=1)["made"] == 1
    assert (copy / "train" / "video" / "train_00001.mp4").stat().st_mtime_ns == kept
    assert bytes_of(copy / "train") == bytes_of(corpus / "train")
    assert json.loads((copy / "manifest.json").read_text())["sha256"] == whole["sha256"]


@pytest.mark.parametrize("gone", ["train/subtitle_chieng.csv", "README.md", "shards/rl.parquet", "test/cues.csv"])
def test_a_missing_file_is_made_again(copy, corpus, gone):
    (copy / gone).unlink()
    assert build(copy, **SMALL, workers=1)["made"] == 0
    assert (copy / gone).is_file()


def test_a_moved_corpus_gets_new_paths(copy):
    build(copy, **SMALL, workers=1)
    for shard in (copy / "shards").glob("*.parquet"):
        table = pq.read_table(shard)
        assert table.schema.metadata[b"media_root"].decode() == str(copy)
        assert all((copy / path).is_file() for row in table.to_pylist() for path in row["videos"] + row["audios"])


def test_another_sft_share_only_rewrites_the_shards(copy):
    before = times_of(copy / "train" / "video")
    assert build(copy, **{**SMALL, "sft": 2}, workers=1)["rows"] == {
        "sft": 2,
        "rl": 7,
        "test": 3,
        "base": 6,
        "align": 18,
    }
    assert times_of(copy / "train" / "video") == before


@pytest.mark.parametrize(
    "change",
    [{"seed": 6}, {"clips": 10}, {"test_clips": 2, "voice": "tones"}, {"reasons": "perfect"}, {"base_clips": 5}],
)
def test_another_corpus_is_never_overwritten(corpus, change):
    with pytest.raises(CorpusError, match=f"{next(iter(change))} .*choose another --out"):
        build(corpus, **{**SMALL, **change}, workers=1)


def test_a_finished_corpus_outlives_a_library_update(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["versions"]["av"] = "0.0"
    manifest["folder"] = str(copy)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert build(copy, **SMALL, workers=1)["made"] == 0
    (copy / "shards" / "rl.parquet").unlink()
    assert build(copy, **SMALL, workers=1)["versions"]["av"] == "0.0", "the clips are still those of the old version"
    (copy / "test" / "video" / "test_00001.mp4").unlink()
    with pytest.raises(CorpusError, match=r"av 0\.0 \(now"):
        build(copy, **SMALL, workers=1)


def test_auto_keeps_the_voice_that_was_begun_with(tmp_path):
    small = {**SMALL, "clips": 1, "test_clips": 1, "base_clips": 1, "sft": 1}
    build(tmp_path / "out", **{**small, "voice": "tones"}, workers=1)
    assert build(tmp_path / "out", **small, workers=1)["voice"].startswith("tones")
    assert "tones" in (tmp_path / "out" / "README.md").read_text()


def test_foreign_folders_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CorpusError, match="not empty and not a MER-Micro corpus"):
        build(tmp_path, **SMALL, workers=1)
    with pytest.raises(CorpusError, match="choose another --out"):
        build(tmp_path / "thesis.txt", **SMALL, workers=1)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(CorpusError, match="not JSON"):
        build(tmp_path, **SMALL, workers=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sft": 10}, "--sft 10: must be between 0 and --clips 9"),
        ({"generator": 1}, "--base-clips 4: generator 1 has no base clips; use --generator 2"),
        ({"base_clips": 0}, "--base-clips 0: generator 2 needs at least 1 base clip"),
        ({"generator": 1, "base_clips": 0, "reasons": "imperfect"}, "--reasons imperfect: generator 1 has perfect"),
    ],
)
def test_arguments_that_do_not_fit_together(tmp_path, change, message):
    with pytest.raises(CorpusError, match=message):
        build(tmp_path, **{**SMALL, **change}, workers=1)


def test_shards(corpus):
    rows = {split: pq.read_table(corpus / "shards" / f"{split}.parquet").to_pylist() for split in ("sft", "rl", "test")}
    assert {split: len(each) for split, each in rows.items()} == {"sft": 6, "rl": 3, "test": 3}
    names = [row["extra_info"]["name"] for each in rows.values() for row in each]
    assert len(names) == len(set(names)) == 12
    for split, each in rows.items():
        for index, row in enumerate(each):
            assert row["data_source"] == "mer_micro"
            assert row["prompt"] == [{"role": "user", "content": build_prompt(row["extra_info"]["subtitle"])}]
            assert row["extra_info"]["split"] == split
            assert row["extra_info"]["index"] == index
            assert row["extra_info"]["reason"]
            assert row["reward_model"]["style"] == "rule"


def rows_of(corpus, shard):
    return pq.read_table(corpus / "shards" / f"{shard}.parquet").to_pylist()


def test_base_asks_for_the_labels_of_base_and_sft_clips(corpus):
    base, sft = rows_of(corpus, "base"), rows_of(corpus, "sft")
    assert [row["extra_info"]["name"] for row in base[:4]] == [f"base_{index:05d}" for index in range(4)]
    assert [row["extra_info"]["name"] for row in base[4:]] == [row["extra_info"]["name"] for row in sft]
    for index, row in enumerate(base):
        split, number = row["extra_info"]["name"].split("_")
        plan = draw_plan(5, split, int(number), IMPERFECT)
        assert row["data_source"] == "mer_micro"
        assert row["prompt"][0]["content"] == build_prompt(plan.subtitle)
        assert row["reward_model"]["ground_truth"] == list(plan.labels)
        assert (corpus / row["videos"][0]).is_file()
        assert [row["extra_info"][key] for key in ("index", "split", "reason")] == [index, "base", ""]


def test_align_asks_for_one_cue_at_a_time(corpus):
    align = rows_of(corpus, "align")
    assert [row["extra_info"]["name"] for row in align[::3]] == [
        row["extra_info"]["name"] for row in rows_of(corpus, "base")
    ]
    assert [row["extra_info"]["index"] for row in align] == list(range(30))
    asked_for_cues(align, pd.concat([pd.read_csv(corpus / split / "cues.csv") for split in ("base", "train")]))


def asked_for_cues(rows, cues):
    cues = cues.set_index("name")
    for row, channel in zip(rows, cycle(CHANNELS), strict=False):
        content = row["prompt"][0]["content"]
        assert row["data_source"] == "mer_micro_align"
        assert content.startswith("<video><audio>Subtitle: ")
        assert f"the {channel} show?" in content
        truth = row["reward_model"]["ground_truth"]
        assert truth == [cues.loc[row["extra_info"]["name"], channel]]
        assert truth[0] in CUE_STATES


def test_cues_say_how_the_reasons_describe_them(corpus):
    cues = pd.read_csv(corpus / "train" / "cues.csv").set_index("name")
    assert [*cues.columns] == ["scenario", *CHANNELS, *(f"reason_{channel}" for channel in CHANNELS)]
    for index in range(9):
        plan = draw_plan(5, "train", index, IMPERFECT)
        assert [*cues.loc[plan.name]] == [plan.scenario, *plan.cues.values(), *plan.described.values()]


@pytest.fixture(scope="module")
def first_generator(tmp_path_factory):
    """The first clips of the same seed, by generator 1."""
    out = tmp_path_factory.mktemp("micro") / "first"
    build(out, **{**SMALL, "clips": 1, "test_clips": 1, "base_clips": 0, "sft": 1}, generator=1, workers=1)
    return out


def test_both_generators_make_the_same_clips(corpus, first_generator):
    for name in ("train/video/train_00000.mp4", "train/audio/train_00000.wav", "test/video/test_00000.mp4"):
        assert (first_generator / name).read_bytes() == (corpus / name).read_bytes()


def test_generator_1_has_align_and_reasons_that_end_in_the_labels(first_generator):
    assert {path.stem for path in (first_generator / "shards").glob("*.parquet")} == {"sft", "rl", "test", "align"}
    cues = pd.read_csv(first_generator / "train" / "cues.csv")
    assert [*cues.columns] == ["name", "scenario", *CHANNELS]
    align = rows_of(first_generator, "align")
    assert len(align) == 3
    asked_for_cues(align, cues)
    (row,) = rows_of(first_generator, "sft")
    assert all(label in row["extra_info"]["reason"] for label in row["reward_model"]["ground_truth"])
    assert "So the feeling is" in row["extra_info"]["reason"]


def test_the_readme_says_that_it_is_made(corpus):
    readme = (corpus / "README.md").read_text()
    assert "Made, not recorded" in readme
    assert "--seed 5" in readme
    assert json.loads((corpus / "manifest.json").read_text())["corpus"].startswith("MER-Micro (made")


def test_command_line(tmp_path):
    run = CliRunner().invoke
    asked = ["micro", "--out", str(tmp_path / "m"), "--clips", "2", "--test-clips", "1", "--base-clips", "1"]
    asked += ["--voice", "tones"]
    first = run(app, [*asked, "--workers", "1"])
    assert first.exit_code == 0, first.output
    assert "4 clips made" in first.output
    assert "no clips to make" in run(app, asked).output
    wrong = run(app, [*asked, "--seed", "3"])
    assert wrong.exit_code == 2
    assert "error: " in wrong.output
    assert "Traceback" not in wrong.output


def test_help_is_quick_and_nothing_imports_torch():
    code = (
        "import sys, data_prep.cli; assert not {'av', 'pandas', 'pyarrow', 'numpy'} & set(sys.modules);"
        "import data_prep.micro.build, data_prep.build; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_workers_import_little():
    code = "import sys, data_prep.micro.render; assert not {'pandas', 'pyarrow', 'rich', 'typer'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
