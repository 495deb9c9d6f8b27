"""Probes of a small made corpus: they learn, they learn nothing from shuffled labels, and they repeat."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

pytest.importorskip("sklearn", reason="probes need scikit-learn")

from data_prep.cli import app
from data_prep.clip import CorpusError
from data_prep.micro.build import build
from data_prep.micro.probes import probe, table
from data_prep.micro.sizes import SIZES
from data_prep.readers.mer_caption_plus import OPENSETS

pytestmark = pytest.mark.slow
DOCS = Path(__file__).parents[2] / "docs"
ORDER = ["nothing", "text", "audio", "video", "text+audio", "text+video", "audio+video", "text+audio+video"]
SINGLE = ("text", "audio", "video")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A corpus that tests must not change."""
    out = tmp_path_factory.mktemp("probes") / "corpus"
    build(out, clips=120, test_clips=40, generator=1, seed=3, sft=80, voice="auto", workers=2)
    return out


@pytest.fixture(scope="module")
def result(corpus):
    return probe(corpus)


@pytest.fixture
def copy(corpus, tmp_path):
    return Path(shutil.copytree(corpus, tmp_path / "copy"))


def by_name(result: dict) -> dict[str, dict]:
    return {row["knows"]: row for row in result["probes"]}


def chance(rows: dict[str, dict]) -> float:
    """What a probe that learnt nothing hardly exceeds."""
    return rows["nothing"]["f1"] + 2 * rows["nothing"]["se"]


def shuffle_labels(folder: Path) -> None:
    labels = pd.read_csv(folder / OPENSETS)
    labels["openset"] = labels["openset"].sample(frac=1, random_state=0).to_numpy()
    labels.to_csv(folder / OPENSETS, index=False)


def test_every_choice_of_modalities_is_probed(result):
    assert [row["knows"] for row in result["probes"]] == ORDER
    assert result["clips"] == {"train": 120, "test": 40}
    for row in result["probes"]:
        assert row["ci95"][0] <= row["f1"] <= row["ci95"][1]
        assert all(0 <= row[key] <= 1 for key in ("precision", "recall", "f1", "best_f1"))


def test_what_is_seen_and_heard_is_learnt(result):
    rows = by_name(result)
    assert rows["video"]["f1"] > chance(rows)
    assert rows["audio+video"]["f1"] > chance(rows)
    assert rows["text+audio+video"]["f1"] > rows["video"]["f1"]


def test_nothing_is_learnt_from_shuffled_labels(copy):
    for split in ("train", "test"):
        shuffle_labels(copy / split)
    rows = by_name(probe(copy))
    assert {name for name in ORDER if rows[name]["f1"] > chance(rows)} == set()


def test_the_command_prints_the_table_and_writes_the_figures_which_are_the_same_again(corpus, result, tmp_path):
    file = tmp_path / "new" / "figures.json"
    run = CliRunner().invoke(app, ["probe", "--corpus", str(corpus), "--json", str(file)])
    assert run.exit_code == 0, run.output
    assert json.loads(file.read_text()) == result
    assert all(row in run.stdout for row in table(result))


def damage(folder: Path, what: str) -> None:
    if what == "no manifest":
        (folder / "manifest.json").unlink()
    elif what == "unfinished":
        (folder / "manifest.json").write_text('{"complete": false}')
    elif what == "no test split":
        shutil.rmtree(folder / "test")
    elif what == "no subtitles":
        (folder / "train" / "subtitle_chieng.csv").unlink()
    elif what == "no wav":
        (folder / "train" / "audio" / "train_00003.wav").unlink()
    elif what == "bad wav":
        (folder / "train" / "audio" / "train_00003.wav").write_bytes(b"not a sound")
    elif what == "bad mp4":
        (folder / "test" / "video" / "test_00003.mp4").write_bytes(b"not a clip")
    elif what == "foreign label":
        file = folder / "test" / OPENSETS
        file.write_text(file.read_text().replace("[", "[serene, ", 1))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no manifest", r"manifest\.json: missing.*data_prep micro"),
        ("unfinished", r"manifest\.json: not a complete MER-Micro corpus"),
        ("no test split", r"test: missing; probes need both splits, train and test"),
        ("no subtitles", r"subtitle_chieng\.csv"),
        ("no wav", r"train_00003\.wav"),
        ("bad wav", r"train_00003\.wav: not a WAV file"),
        ("bad mp4", r"test_00003"),
        ("foreign label", r"clip 'test_00000': label 'serene' is not in MER-Micro's table"),
    ],
)
def test_what_cannot_be_probed_is_named(copy, what, message):
    damage(copy, what)
    with pytest.raises(CorpusError, match=message):
        probe(copy)


def test_a_folder_that_does_not_exist_ends_with_a_message(tmp_path):
    run = CliRunner().invoke(app, ["probe", "--corpus", str(tmp_path / "absent")])
    assert run.exit_code == 2
    assert "manifest.json: missing" in run.output


@pytest.fixture
def built(monkeypatch):
    """The arguments with which the command calls `build`."""
    calls = []

    def record(out, **arguments):
        calls.append(arguments)
        return {"made": 0, "voice": "tones 1", "rows": {}}

    monkeypatch.setattr("data_prep.micro.build.build", record)
    return calls


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], (1000, 320, 600, 600)),
        (["--size", "benchmark"], (4000, 800, 2400, 2400)),
        (["--generator", "1"], (1600, 160, 0, 1200)),
        (["--generator", "1", "--size", "benchmark"], (4000, 800, 0, 3000)),
        (["--size", "benchmark", "--clips", "10", "--test-clips", "2", "--base-clips", "3"], (10, 2, 3, 6)),
        (["--size", "benchmark", "--sft", "0"], (4000, 800, 2400, 0)),
    ],
)
def test_a_size_is_what_explicit_options_do_not_say(built, tmp_path, options, expected):
    run = CliRunner().invoke(app, ["micro", "--out", str(tmp_path / "out"), *options])
    assert run.exit_code == 0, run.output
    assert tuple(built[0][name] for name in ("clips", "test_clips", "base_clips", "sft")) == expected


def test_the_documented_probes_are_those_of_the_benchmark():
    measured = json.loads((DOCS / "results" / "micro_probes.json").read_text(encoding="utf-8"))
    card = (DOCS / "MER-Micro.md").read_text(encoding="utf-8")
    arguments = measured["corpus"]["arguments"]
    assert (arguments["clips"], arguments["test_clips"]) == SIZES[1]["benchmark"][:2]
    assert arguments["seed"] == 0
    assert all(row in card for row in table(measured))
    assert all(digest in card for digest in measured["corpus"]["sha256"].values())


def test_no_single_modality_is_enough_for_the_benchmark():
    rows = by_name(json.loads((DOCS / "results" / "micro_probes.json").read_text(encoding="utf-8")))
    assert max(rows[name]["ci95"][1] for name in SINGLE) < 0.85
    assert rows["text+audio+video"]["ci95"][0] > 0.98
