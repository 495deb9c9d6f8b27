"""`data_prep check` finds what is wrong with every clip, remembers what it decoded, and survives its decoders."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from broken import Corpus, broken, hostile, mp4, remux, sound
from typer.testing import CliRunner

from data_prep import rows
from data_prep.check import report, run, screen
from data_prep.check.record import Recorder
from data_prep.check.results import FILE, Results
from data_prep.check.verdicts import KINDS, Limits
from data_prep.cli import app
from data_prep.clip import Clip
from data_prep.drops import quarantined
from data_prep.places import MediaFolder, Root
from data_prep.reader import Reader
from data_prep.readers import get
from data_prep.readers.mer_caption_plus import OPENSETS

READER = get("mer_caption_plus")


def cli(root: Path, out: Path, *more: str):
    """The command, in this process."""
    arguments = ["--corpus", "mer_caption_plus", "--root", str(root), "--out", str(out), "--workers", "1", *more]
    return CliRunner().invoke(app, ["check", *arguments])


def shard(path: Path, root: Path, name: str, video: bytes, *, embed: bool = False) -> Path:
    """A held-out shard of one clip."""
    file = root / f"{name}.mp4"
    root.mkdir(exist_ok=True)
    file.write_bytes(video)
    row = rows.to_row(Clip(name, "row 1", file, file, labels=("happy",)), root, data_source="held")
    if embed:
        row["videos"] = row["audios"] = [{"path": file.name, "bytes": video}]
        file.unlink()
    with rows.ShardWriter(path, rows.schema(Root(root), embed=embed)) as writer:
        writer.write(row)
    return path


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """Every broken clip, checked once: (expected, result of the command, its folder)."""
    base = tmp_path_factory.mktemp("check")
    expected = broken(base / "corpus", base / "elsewhere.mp4")
    held = [
        shard(base / "by_name.parquet", base / "held", "seen_by_name", mp4(100)),
        shard(base / "by_content.parquet", base / "held", "another_name", mp4(23), embed=True),
    ]
    options = [part for path in held for part in ("--held-out", str(path))]
    options += ["--max-seconds", "3", "--quarantine", str(base / "quarantine.jsonl")]
    return expected, cli(base / "corpus", base / "out", *options), base


def test_every_broken_clip_gets_its_verdict(checked):
    expected, result, base = checked
    assert result.exit_code == 1, result.output
    found = json.loads((base / "out/report.json").read_text(encoding="utf-8"))
    clips = found["clips"]
    assert [clip["name"] for clip in clips] == [*expected, "sound"]
    assert {clip["name"]: {each["kind"] for each in clip["verdicts"]} for clip in clips[:-1]} == expected
    assert [each["kind"] for each in clips[-1]["verdicts"]] == ["name_duplicate"]
    dropped = {name for name, kinds in expected.items() if any(KINDS[kind][0] == "drop" for kind in kinds)}
    assert found["clips_dropped"] == len(dropped) + 1
    assert found["counts"]["silent"] == {"severity": "note", "clips": 3, "meaning": "no sound above -60 dBFS"}
    assert sum(bar["clips"] for bar in found["seconds"]["histogram"]) == sum(clip["seconds"] > 0 for clip in clips)


def test_messages_name_file_row_and_clip_and_the_table_every_kind(checked):
    expected, result, base = checked
    clips = json.loads((base / "out/report.json").read_text(encoding="utf-8"))["clips"]
    for row, clip in enumerate(clips, start=1):
        for each in clip["verdicts"]:
            subtitle = each["kind"].startswith("subtitle_")
            assert f"row {row}: " in each["message"] or subtitle, each
            assert f"clip {clip['name']!r}" in each["message"] or each["kind"].startswith("label_"), each
            assert ";" in each["message"]
    for kind in {kind for kinds in expected.values() for kind in kinds}:
        assert kind in result.output
    assert "\x1b" not in result.output


def test_the_quarantine_holds_what_is_dropped_but_no_sound_clip_whose_name_came_again(checked):
    expected, _, base = checked
    dropped = {name for name, kinds in expected.items() if any(KINDS[kind][0] == "drop" for kind in kinds)}
    assert {name for _, name in quarantined(base / "quarantine.jsonl", "mer_caption_plus")} == dropped
    assert "sound" not in dropped


def test_build_leaves_the_quarantine_out_and_decodes_all_it_keeps(checked, tmp_path):
    expected, _, base = checked
    options = ["--quarantine", str(base / "quarantine.jsonl"), "--on-bad", "skip"]
    arguments = ["--corpus", "mer_caption_plus", "--root", str(base / "corpus"), "--out", str(tmp_path), *options]
    result = CliRunner().invoke(app, ["build", *arguments])
    assert result.exit_code == 0, result.output
    kept = {row["extra_info"]["name"] for row in rows.read(tmp_path / "rl.parquet")}
    assert kept == {name for name, kinds in expected.items() if all(KINDS[kind][0] == "note" for kind in kinds)}


def test_a_second_run_decodes_nothing_and_says_the_same(checked):
    _, _, base = checked
    first = json.loads((base / "out/report.json").read_text(encoding="utf-8"))
    cli(base / "corpus", base / "out", "--max-seconds", "9")
    second = json.loads((base / "out/report.json").read_text(encoding="utf-8"))
    assert first["files_decoded"] > 0
    assert second["files_decoded"] == 0
    assert "too_long" in first["counts"]
    assert "too_long" not in second["counts"]
    assert first["counts"]["truncated"] == second["counts"]["truncated"]


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    return sound(tmp_path / "corpus", [f"clip{number}" for number in range(6)])


def checked_by(corpus: Corpus, out: Path, reader: Reader = READER, **options) -> tuple[Recorder, dict[str, set[str]]]:
    """(recorder, kinds by name) of a check with these options."""
    with run.open_results(out, Limits()) as results:
        done = run.check(reader, Root(corpus.root), results, run.Options(**options))
        found: dict[str, set[str]] = {name: set() for (name,) in results.rows("SELECT name FROM clip")}
        for name, kind in results.rows("SELECT name, kind FROM verdict JOIN clip USING (number)"):
            found[name].add(kind)
    return done, found


def test_a_sound_corpus_ends_with_0_and_an_unreadable_one_with_2(corpus, tmp_path):
    result = cli(corpus.root, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "6 clips: 0 to drop, 0 with a note" in result.output
    assert "\r" not in result.stderr
    corpus.folder.joinpath(OPENSETS).unlink()
    result = cli(corpus.root, tmp_path / "out")
    assert (result.exit_code, OPENSETS in result.stderr) == (2, True)
    assert cli(tmp_path / "nowhere", tmp_path / "out").exit_code == 2


@pytest.mark.slow
def test_a_crashed_or_hung_decoder_costs_its_clip_alone_and_is_tried_again(tmp_path):
    names = ["a", "crash", "b", "hang", "c", "exit", "d", "raise"]
    corpus = sound(tmp_path / "corpus", names)
    lost = {
        "crash": {"decoder_crashed"},
        "exit": {"decoder_crashed"},
        "raise": {"decoder_crashed"},
        "hang": {"decoder_hung"},
    }
    done, found = checked_by(corpus, tmp_path / "out", inspect=hostile, timeout=3.0, workers=2)
    assert found == {name: lost.get(name, set()) for name in names}
    assert done.decoded + done.remembered == 2 * 4
    again, found = checked_by(corpus, tmp_path / "out")
    assert found == {name: set() for name in names}
    # Four videos; the sounds are all the same bytes.
    assert (again.decoded, again.remembered) == (4, 2 * len(names) - 4)


@pytest.mark.slow
def test_a_killed_run_is_gone_on_with(tmp_path):
    names = [f"clip{number}" for number in range(24)]
    corpus, out = sound(tmp_path / "corpus", names), tmp_path / "out"
    code = (
        "from pathlib import Path; from broken import slow; from test_check import *\n"
        f"class C: root = Path({str(corpus.root)!r})\n"
        f"checked_by(C, Path({str(out)!r}), inspect=slow)"
    )
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})
    try:
        while _kept(out) < 3 and process.poll() is None:
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = _kept(out)
    assert 0 < kept < 2 * len(names)
    done, found = checked_by(corpus, out)
    assert found == {name: set() for name in names}
    # All videos differ, all sounds are the same bytes.
    assert done.decoded <= 2 * len(names) - kept
    assert done.decoded + done.remembered == 2 * len(names)


def _kept(out: Path) -> int:
    try:
        with sqlite3.connect(f"{(out / FILE).as_uri()}?mode=ro", uri=True) as base:
            return base.execute("SELECT count(*) FROM facts").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def test_an_interrupted_run_keeps_what_it_found(corpus, tmp_path, monkeypatch):
    ended = iter(range(3))

    def step() -> None:
        if next(ended, None) is None:
            raise KeyboardInterrupt

    with monkeypatch.context() as during, run.open_results(tmp_path / "out", Limits()) as results:
        during.setattr(run, "progress", lambda what, total: nullcontext(step))
        with pytest.raises(KeyboardInterrupt):
            run.check(READER, Root(corpus.root), results, run.Options())
    done, _ = checked_by(corpus, tmp_path / "out")
    assert done.remembered >= 2 * 3
    assert done.decoded > 0


def test_files_are_known_by_content_when_they_move_or_are_touched(corpus, tmp_path):
    first, _ = checked_by(corpus, tmp_path / "out")
    moved = corpus.root.rename(tmp_path / "moved")
    os.utime(moved / "mer2025-dataset/video/clip0.mp4")
    corpus.root = moved
    again, _ = checked_by(corpus, tmp_path / "out")
    assert (first.decoded + first.remembered, again.decoded, again.remembered) == (12, 0, 12)
    (moved / "mer2025-dataset/video/clip0.mp4").write_bytes(mp4(77))
    assert checked_by(corpus, tmp_path / "out")[0].decoded == 1


def test_where_the_video_has_the_sound_both_tracks_are_decoded(tmp_path):
    corpus = sound(tmp_path / "corpus", ["whole"])
    corpus.add("mute", remux(mp4(1), lambda kind: kind == "video"), None)
    corpus.write()
    reader = Reader("own", "Own", READER.labels, MediaFolder("mer2025-dataset/video", (".mp4",)), training=True)
    done, found = checked_by(corpus, tmp_path / "out", reader)
    assert found == {"whole": set(), "mute": {"no_audio_track"}}
    assert done.decoded == 2


def test_clips_of_the_corpus_s_own_test_set_are_held_out(tmp_path):
    corpus, other = sound(tmp_path / "corpus", ["a", "b"]), sound(tmp_path / "corpus/test", ["t"])
    (corpus.folder / "video/b.mp4").write_bytes((other.folder / "video/t.mp4").read_bytes())
    (corpus.folder / "video/a.mp4").write_bytes(mp4(5))
    from dataclasses import replace

    from data_prep.readers.mer_caption_plus import reader

    test = replace(reader("own", "Own, test", "test/mer2025-dataset", None), training=False)
    _, found = checked_by(corpus, tmp_path / "out", replace(READER, test=test))
    assert found == {"a": set(), "b": {"in_test_too"}, "t": {"duplicate_content"}}


@pytest.mark.parametrize("problem", ["absent", "no_shard", "clip_gone"])
def test_a_held_out_shard_that_cannot_be_compared_ends_the_check(corpus, tmp_path, problem):
    path = tmp_path / "held.parquet"
    if problem == "no_shard":
        path.write_text("text")
    if problem == "clip_gone":
        shard(path, tmp_path / "held", "x", mp4(1))
        (tmp_path / "held/x.mp4").unlink()
    result = cli(corpus.root, tmp_path / "out", "--held-out", str(path))
    assert (result.exit_code, "--held-out" in result.stderr) == (2, True)


def test_long_prompts_are_dropped_and_shown(corpus, tmp_path, capsys):
    lengths = iter((100, 200, 300, 400, 500, 600))
    limits = Limits(max_prompt_length=450)
    with run.open_results(tmp_path / "out", limits) as results:
        options = run.Options(limits, count_tokens=lambda clip, media: next(lengths))
        run.check(READER, Root(corpus.root), results, options)
        assert report.counts(results) == [("prompt_too_long", "drop", 2)]
        screen.show(results, "title", 450)
        assert sum(bar.clips for bar in report.histogram(results, "tokens")) == 6
    assert "over --max-prompt-length 450: 2 clips would be dropped" in capsys.readouterr().out


def test_a_base_that_is_none_is_named(tmp_path):
    (tmp_path / FILE).write_text("not a base " * 100)
    with pytest.raises(ValueError, match="remove it"):
        Results(tmp_path / FILE, "1")


def test_the_page_has_every_kind_of_verdict_in_its_own_words():
    page = (Path(__file__).parents[2] / "docs" / "check.md").read_text(encoding="utf-8")
    table = [f"| `{kind}` | {severity} | {meaning} |" for kind, (severity, meaning) in KINDS.items()]
    assert "\n".join(table) in page
