"""MER2026's folder: reasons of another year, human labels for RL, candidates, and what is refused."""

import json

import corpora
import pytest
from typer.testing import CliRunner

from data_prep import readers, rows
from data_prep.build import build
from data_prep.cli import app
from data_prep.clip import CorpusError
from data_prep.options import Options
from data_prep.places import Root


def run(*arguments):
    """`data_prep` with these arguments: exit code and what it printed."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.output


def read(out, split):
    """Clip → reason of a shard."""
    return {row["extra_info"]["name"]: row["extra_info"]["reason"] for row in rows.read(out / f"{split}.parquet")}


@pytest.fixture
def folder(tmp_path):
    """All of MER2026's files in one folder, as the download has them."""
    for name in ("mer2026", "mer2026_human", "mer2026_candidates"):
        corpora.make(name, tmp_path)
    corpora.subtitles(
        tmp_path / "mer2026-dataset", "samplenew3_00000001", "samplenew3_00000002", "empty", "human_1", "human_2",
        "00012",
    )  # fmt: skip
    return tmp_path


def test_without_reasons_sft_is_fast_and_the_command_says_so(folder, tmp_path):
    out = tmp_path / "out"
    build_it = ("build", "--corpus", "mer2026", "--root", folder, "--out", out, "--on-bad", "skip")
    code, printed = run(*build_it, "--sft", "all")
    assert code == 0
    assert "fast form only" in printed
    assert "--reasons" in printed
    assert read(out, "sft") == {"samplenew3_00000001": "", "samplenew3_00000002": ""}
    assert "fast form only" in (out / "README.md").read_text(encoding="utf-8")
    code, printed = run(*build_it)
    assert (code, read(out, "sft"), len(read(out, "rl"))) == (0, {}, 2)
    assert "fast form" not in printed, "there is no SFT shard to warn about"


def test_reasons_of_mer2025_go_to_sft(folder, tmp_path):
    reasons, out = tmp_path / "mer2025" / "track3_train_mercaptionplus.csv", tmp_path / "out"
    corpora.table(reasons, "name,reason", "samplenew3_00000002,A frown.", "elsewhere,Not here.")
    build_it = ("build", "--corpus", "mer2026", "--root", folder, "--out", out, "--on-bad", "skip")
    code, printed = run(*build_it, "--sft", "all", "--reasons", reasons)
    assert (code, "fast form" in printed) == (0, False)
    assert read(out, "sft") == {"samplenew3_00000002": "A frown."}
    assert read(out, "rl") == {"samplenew3_00000001": ""}
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert manifest["with_reason"] == 1
    named = {*manifest["inputs_sha256"]}
    assert named >= {"mer2026-dataset/track2_train_mercaptionplus.csv", "mer2025/track3_train_mercaptionplus.csv"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("name,reason\nelsewhere,Not here.\n", "has no text for any of the 2 clips, such as 'samplenew3_00000001'"),
        ("name,text\nsamplenew3_00000001,Hm\n", "no column 'reason'"),
        (None, "missing"),
    ],
)
def test_a_wrong_file_of_reasons_is_refused(folder, tmp_path, content, says):
    reasons = tmp_path / "reasons.csv"
    if content:
        reasons.write_text(content, encoding="utf-8")
    with pytest.raises(CorpusError, match=says) as refused:
        build(readers.get("mer2026"), Root(folder), tmp_path / "out", Options(on_bad="skip", reasons=reasons))
    assert str(reasons) in str(refused.value)


def test_human_labels_for_validation_or_for_rl(folder, tmp_path):
    reader, root, out = readers.get("mer2026_human"), Root(folder), tmp_path / "out"
    assert build(reader, root, out, Options())["rows"] == {"test": 3}
    assert build(reader, root, out, Options(train=True, on_bad="skip"))["rows"] == {"sft": 0, "rl": 1}
    left = [json.loads(line) for line in (out / "left_out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {(line["name"], line["kind"]) for line in left} == {
        ("human_2", "label_unmapped"),
        ("human_3", "subtitle_missing"),
    }


def test_candidates_are_rows_without_labels(folder, tmp_path):
    out = tmp_path / "out"
    code, printed = run("build", "--corpus", "mer2026_candidates", "--root", folder, "--out", out, "--on-bad", "skip")
    assert code == 0
    assert "candidates 2" in printed
    assert "the published corpus has 20000" in printed
    found = [*rows.read(out / "candidates.parquet")]
    assert [row["extra_info"]["name"] for row in found] == ["00012", "second"]
    assert [row["reward_model"]["ground_truth"] for row in found] == [[], []]
    assert {row["extra_info"]["split"] for row in found} == {"candidates"}
    assert "Subtitle: English, 00012" in found[0]["prompt"][0]["content"]


@pytest.mark.parametrize(
    ("corpus", "options", "says"),
    [
        ("mer2026_candidates", ("--train",), "--train: mer2026_candidates is a test set"),
        ("mer2026", ("--train",), "--train: mer2026 is a training corpus anyway"),
        ("mer2026_human", ("--sft", "all"), "one shard, test.parquet; remove --sft, or add --train"),
        ("mer2026_candidates", ("--sft", "2"), "one shard, candidates.parquet; remove --sft"),
        ("mer2026_human", ("--reasons", "file.csv"), "--reasons file.csv: mer2026_human makes no SFT shard"),
        ("mer_caption_plus", (), "use --corpus mer2026"),
    ],
)
def test_what_does_not_go_together_is_refused(folder, tmp_path, corpus, options, says):
    where = folder / "mer2026-dataset" if corpus == "mer_caption_plus" else folder
    code, printed = run("build", "--corpus", corpus, "--root", where, "--out", tmp_path / "out", *options)
    assert code == 2
    assert says in printed


@pytest.mark.parametrize("file", ["track1_track2_candidate.csv", "subtitle_chieng.csv"])
def test_a_missing_file_or_column_is_named(folder, tmp_path, file):
    path = folder / "mer2026-dataset" / file
    command = ("build", "--corpus", "mer2026_candidates", "--root", folder, "--out", tmp_path / "out")
    path.write_text("clip\n00012\n", encoding="utf-8")
    code, printed = run(*command)
    assert (code, f"{path}: no column 'name'" in printed) == (2, True)
    path.unlink()
    code, printed = run(*command)
    assert (code, f"{path}: missing" in printed) == (2, True)


def test_a_folder_of_another_year_is_shown(folder, tmp_path):
    with pytest.raises(CorpusError, match="has the folders mer2026-dataset"):
        build(readers.get("mer2025_candidates"), Root(folder), tmp_path / "out", Options())


def test_check_reads_candidates_and_reasons(folder, tmp_path):
    listed = tmp_path / "bad.jsonl"
    common = ("--root", folder, "--out", tmp_path / "checked", "--quarantine", listed, "--workers", "1")
    code, printed = run("check", "--corpus", "mer2026_candidates", *common)
    assert code == 1, printed
    kinds = {json.loads(line)["name"]: json.loads(line)["kind"] for line in listed.read_text().splitlines()}
    assert kinds == {"gone": "audio_missing"}, "the first row of 00012 stays"
    reasons = tmp_path / "reasons.csv"
    corpora.table(reasons, "name,reason", "samplenew3_00000001,One <think> too many.")
    assert run("check", "--corpus", "mer2026", "--reasons", reasons, *common)[0] == 1
    kinds = {json.loads(line)["name"]: json.loads(line)["kind"] for line in listed.read_text().splitlines()}
    assert kinds == {"samplenew3_00000001": "markup_in_text", "empty": "label_empty"}
    common = ("--root", folder, "--out", tmp_path / "human", "--quarantine", listed, "--workers", "1")
    assert run("check", "--corpus", "mer2026_human", "--train", *common)[0] == 1, "human_3 has no subtitle"
