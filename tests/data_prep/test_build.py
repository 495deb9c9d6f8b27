"""`data_prep build`: the split, what is left out and why, embedding, and what lies beside the shards."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from data_prep import readers, rows
from data_prep.build import build
from data_prep.cli import app
from data_prep.clip import CorpusError
from data_prep.options import Options
from data_prep.places import Root
from verl_ext.data.shard_media import is_silent

CLIPS = 12


@pytest.fixture
def corpus(tmp_path):
    """MER-Caption+'s layout with files that exist; nothing is decoded here."""
    folder = tmp_path / "download" / "mer2025-dataset"
    for kind in ("video", "audio"):
        (folder / kind).mkdir(parents=True)
    names = [f"clip_{i:02}" for i in range(CLIPS)]
    for name in names:
        (folder / "video" / f"{name}.mp4").write_bytes(f"video of {name}".encode())
        (folder / "audio" / f"{name}.wav").write_bytes(f"audio of {name}".encode())
    write(folder / "track2_train_mercaptionplus.csv", "name,openset", [f'{name},"[happy, sad]"' for name in names])
    write(folder / "subtitle_chieng.csv", "name,chinese,english", [f"{name},,Words of {name}" for name in names])
    write(folder / "track3_train_mercaptionplus.csv", "name,reason", [f"{name},He smiles at {name}." for name in names])
    return tmp_path / "download"


def write(path, header, lines):
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


def replace(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def opensets(corpus):
    return corpus / "mer2025-dataset" / "track2_train_mercaptionplus.csv"


def run(corpus, out, **options):
    return build(readers.get("mer_caption_plus"), Root(corpus), out, Options(**options))


def names(path):
    return [row["extra_info"]["name"] for row in rows.read(path)]


def test_sft_and_rl_part_the_corpus(corpus, tmp_path):
    manifest = run(corpus, tmp_path / "out", sft=5)
    sft, rl = names(tmp_path / "out" / "sft.parquet"), names(tmp_path / "out" / "rl.parquet")
    assert manifest["rows"] == {"sft": 5, "rl": 7}
    assert sorted(sft + rl) == [f"clip_{i:02}" for i in range(CLIPS)]
    assert sft == sorted(sft), "the corpus's order is kept"
    assert rl == sorted(rl)


def test_all_clips_with_a_reason_can_be_for_sft(corpus, tmp_path):
    out = tmp_path / "out"
    done = command("build", "--corpus", "mer_caption_plus", "--root", corpus, "--out", out, "--sft", "all")
    assert done.exit_code == 0, done.output
    assert f"sft {CLIPS}, rl 0" in done.output
    assert names(out / "sft.parquet") == [f"clip_{i:02}" for i in range(CLIPS)]
    assert names(out / "rl.parquet") == []
    assert json.loads((out / "manifest.json").read_text())["sft"] == "all"


def test_a_seed_decides_the_split(corpus, tmp_path):
    splits = []
    for seed in (0, 0, 1):
        run(corpus, tmp_path / "out", sft=5, seed=seed)
        splits.append(names(tmp_path / "out" / "sft.parquet"))
    assert splits[0] == splits[1] != splits[2]


def test_same_input_same_bytes(corpus, tmp_path):
    files = []
    for out in ("one", "two"):
        run(corpus, tmp_path / out, sft=5)
        files.append({path.name: path.read_bytes() for path in sorted((tmp_path / out).iterdir())})
    assert files[0] == files[1]
    assert set(files[0]) == {"sft.parquet", "rl.parquet", "manifest.json", "left_out.jsonl", "README.md"}


def test_a_row_is_what_training_reads(corpus, tmp_path):
    run(corpus, tmp_path / "out", sft=CLIPS)
    row = next(rows.read(tmp_path / "out" / "sft.parquet"))
    assert row["data_source"] == "mer_caption_plus"
    assert row["videos"] == ["mer2025-dataset/video/clip_00.mp4"]
    assert row["audios"] == ["mer2025-dataset/audio/clip_00.wav"]
    assert row["reward_model"] == {"style": "rule", "ground_truth": ["happy", "sad"]}
    assert row["prompt"][0]["content"].startswith("<video><audio>Subtitle: Words of clip_00\n")
    assert row["extra_info"]["reason"] == "He smiles at clip_00."
    assert row["extra_info"]["index"] == 0
    assert row["extra_info"]["split"] == "sft"
    metadata = pq.read_schema(tmp_path / "out" / "sft.parquet").metadata
    assert metadata[rows.MEDIA_ROOT].decode() == str(corpus)


@pytest.mark.parametrize(
    ("without", "videos", "audios", "prompt"),
    [
        (("sound",), 1, 0, "<video>Subtitle: Words of clip_00\n"),
        (("picture",), 0, 1, "<audio>Subtitle: Words of clip_00\n"),
        (("subtitle",), 1, 1, "<video><audio>\nWhat"),
        (("picture", "subtitle"), 0, 1, "<audio>\nWhat"),
    ],
)
def test_rows_without_a_part_do_not_ask_for_it(corpus, tmp_path, without, videos, audios, prompt):
    manifest = run(corpus, tmp_path / "out", without=without)
    row = next(rows.read(tmp_path / "out" / "rl.parquet"))
    assert (len(row["videos"]), len(row["audios"])) == (videos, audios)
    assert row["prompt"][0]["content"].startswith(prompt)
    assert row["extra_info"]["subtitle"] == ("" if "subtitle" in without else "Words of clip_00")
    parts = {part: CLIPS for part in ("picture", "sound") if part in without}
    assert (manifest["rows"]["rl"], manifest["without"], manifest["partial"]) == (CLIPS, list(without), parts)
    assert is_silent(tmp_path / "out" / "rl.parquet") == ("sound" in without)


def test_clips_with_one_of_their_files_are_kept_where_that_is_wanted(corpus, tmp_path):
    folder = corpus / "mer2025-dataset"
    (folder / "audio" / "clip_01.wav").unlink()
    (folder / "video" / "clip_02.mp4").unlink()
    for file in ("audio/clip_03.wav", "video/clip_03.mp4"):
        (folder / file).unlink()
    with pytest.raises(CorpusError, match="2 video_missing, 1 audio_missing"):
        run(corpus, tmp_path / "refused")
    manifest = run(corpus, tmp_path / "out", missing="keep", on_bad="skip")
    assert manifest["left_out_by_reason"] == {"media_missing": 1}
    assert manifest["partial"] == {"picture": 1, "sound": 1}
    found = {row["extra_info"]["name"]: row for row in rows.read(tmp_path / "out" / "rl.parquet")}
    assert (found["clip_01"]["videos"], found["clip_01"]["audios"]) == (["mer2025-dataset/video/clip_01.mp4"], [])
    assert (found["clip_02"]["videos"], found["clip_02"]["audios"]) == ([], ["mer2025-dataset/audio/clip_02.wav"])
    assert found["clip_02"]["prompt"][0]["content"].startswith("<audio>Subtitle")
    assert "clip_03" not in found
    # A clip whose only part is the one that is to go.
    manifest = run(corpus, tmp_path / "seen", missing="keep", on_bad="skip", without=("sound",))
    assert manifest["left_out_by_reason"] == {"media_missing": 2}
    with pytest.raises(CorpusError, match="nothing is left to see or hear"):
        run(corpus, tmp_path / "none", without=("picture", "sound"))


def test_a_linked_folder_that_was_allowed_is_read_by_training_too(corpus, tmp_path):
    from verl_ext.data.shard_media import ShardError, read_table

    (corpus / "mer2025-dataset" / "video").rename(tmp_path / "disk")
    (corpus / "mer2025-dataset" / "video").symlink_to(tmp_path / "disk")
    build(readers.get("mer_caption_plus"), Root(corpus, (tmp_path / "disk",)), tmp_path / "out", Options())
    table = read_table(tmp_path / "out" / "rl.parquet")
    assert table["videos"][0].as_py() == [f"{corpus}/mer2025-dataset/video/clip_00.mp4"]
    bare = pq.read_table(tmp_path / "out" / "rl.parquet").replace_schema_metadata({"media_root": str(corpus)})
    pq.write_table(bare, tmp_path / "bare.parquet")
    with pytest.raises(ShardError, match="points outside"):
        read_table(tmp_path / "bare.parquet")


def test_embedded_clips_are_the_files(corpus, tmp_path):
    run(corpus, tmp_path / "out", sft=5, embed=True)
    shutil.rmtree(corpus)
    found = {row["extra_info"]["name"]: row for row in rows.read(tmp_path / "out" / "rl.parquet")}
    assert len(found) == 7
    for name, row in found.items():
        assert row["videos"] == [{"path": f"mer2025-dataset/video/{name}.mp4", "bytes": f"video of {name}".encode()}]
        assert row["audios"][0]["bytes"] == f"audio of {name}".encode()
    with pq.ParquetFile(tmp_path / "out" / "rl.parquet") as file:
        assert all(file.metadata.row_group(i).num_rows <= rows.EMBEDDED_ROWS for i in range(file.num_row_groups))


def test_a_clip_without_reason_is_never_for_sft(corpus, tmp_path):
    replace(corpus / "mer2025-dataset" / "track3_train_mercaptionplus.csv", "He smiles at clip_03.", "nan")
    run(corpus, tmp_path / "out", sft=CLIPS - 1)
    assert names(tmp_path / "out" / "rl.parquet") == ["clip_03"]
    expected = f"--sft {CLIPS}: too many; {CLIPS} clips are kept and {CLIPS - 1} of them have a reason"
    with pytest.raises(CorpusError, match=expected):
        run(corpus, tmp_path / "out", sft=CLIPS)


def test_labels_that_no_wheel_maps_are_left_out_and_counted(corpus, tmp_path):
    replace(opensets(corpus), 'clip_04,"[happy, sad]"', 'clip_04,"[table, chair]"')
    manifest = run(corpus, tmp_path / "out")
    assert manifest["left_out_by_reason"] == {"label_unmapped": 1}
    assert "clip_04" not in names(tmp_path / "out" / "rl.parquet")
    left = [json.loads(line) for line in (tmp_path / "out" / "left_out.jsonl").read_text().splitlines()]
    assert [(line["name"], line["kind"]) for line in left] == [("clip_04", "label_unmapped")]
    assert "row 5" in left[0]["message"]
    assert "table" in left[0]["message"]


def test_a_fault_is_an_error_with_its_place_and_way_out(corpus, tmp_path):
    replace(opensets(corpus), 'clip_04,"[happy, sad]"', "clip_04,[]")
    (corpus / "mer2025-dataset" / "audio" / "clip_07.wav").unlink()
    with pytest.raises(CorpusError) as error:
        run(corpus, tmp_path / "out")
    for part in ("1 label_empty", "1 audio_missing", "row 5", "clip_07.wav", "--on-bad skip"):
        assert part in str(error.value)
    assert not list((tmp_path / "out").glob("*.parquet*")), "no half of a result"


def test_skip_leaves_bad_clips_out_and_lists_each(corpus, tmp_path):
    replace(opensets(corpus), 'clip_04,"[happy, sad]"', "clip_04,[]")
    (corpus / "mer2025-dataset" / "audio" / "clip_07.wav").unlink()
    manifest = run(corpus, tmp_path / "out", on_bad="skip")
    assert manifest["left_out_by_reason"] == {"audio_missing": 1, "label_empty": 1}
    assert manifest["rows"]["rl"] == CLIPS - 2
    assert manifest["read"] == CLIPS
    assert "| … label_empty | 1 |" in (tmp_path / "out" / "README.md").read_text()


def test_nothing_left_is_an_error(corpus, tmp_path):
    replace(opensets(corpus), '"[happy, sad]"', "[]")
    with pytest.raises(CorpusError, match="none of the 12 rows has a usable clip"):
        run(corpus, tmp_path / "out", on_bad="skip")
    assert not list((tmp_path / "out").glob("kept-*"))


def test_quarantined_clips_are_left_out_without_error(corpus, tmp_path):
    replace(opensets(corpus), 'clip_04,"[happy, sad]"', "clip_04,[]")
    line = {"corpus": "mer_caption_plus", "group": "", "message": "…"}
    entries = [{**line, "name": "clip_04", "kind": "label_empty"}, {**line, "name": "clip_09", "kind": "truncated"}]
    quarantine = tmp_path / "quarantine.jsonl"
    quarantine.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    manifest = run(corpus, tmp_path / "out", quarantine=quarantine)
    assert manifest["left_out_by_reason"] == {"quarantined_label_empty": 1, "quarantined_truncated": 1}
    assert not {"clip_04", "clip_09"} & set(names(tmp_path / "out" / "rl.parquet"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"corpus": "meld", "group": "", "name": "a", "kind": "truncated"}\n', "lists clips of meld, but none of"),
        ("clip_04\n", "line 1: not a line of a quarantine list"),
    ],
)
def test_a_quarantine_list_of_something_else_is_refused(text, message, corpus, tmp_path):
    quarantine = tmp_path / "quarantine.jsonl"
    quarantine.write_text(text)
    with pytest.raises(CorpusError, match=message):
        run(corpus, tmp_path / "out", quarantine=quarantine)


def test_clips_of_a_held_out_shard_are_not_trained_on(corpus, tmp_path):
    run(corpus, tmp_path / "one", sft=5)
    held_out = tmp_path / "one" / "sft.parquet"
    manifest = run(corpus, tmp_path / "two", on_bad="skip", held_out=(held_out,))
    assert manifest["left_out_by_reason"] == {"in_test_too": 5}
    assert names(tmp_path / "two" / "rl.parquet") == names(tmp_path / "one" / "rl.parquet")
    with pytest.raises(CorpusError, match="in_test_too"):
        run(corpus, tmp_path / "two", held_out=(held_out,))
    with pytest.raises(CorpusError, match="not a shard written by data_prep"):
        run(corpus, tmp_path / "two", held_out=(opensets(corpus),))


def test_a_corpus_with_a_test_set_writes_it_and_keeps_it_out_of_training(micro_corpus, tmp_path):
    root = tmp_path / "micro"
    shutil.copytree(micro_corpus, root)
    whole = build(readers.get("micro"), Root(root), tmp_path / "one", Options())["rows"]
    test_names, train_names = (set(names(tmp_path / "one" / f"{split}.parquet")) for split in ("test", "rl"))
    assert len(test_names) == whole["test"]
    assert not test_names & train_names
    # One training clip is put into the test set, too.
    twice = sorted(train_names)[0]
    for file in sorted((root / "train").glob("*.csv")):
        line = next(line for line in file.read_text().splitlines() if line.startswith(twice))
        with (root / "test" / file.name).open("a") as other:
            other.write(line + "\n")
    for kind, suffix in (("video", "mp4"), ("audio", "wav")):
        shutil.copy(root / "train" / kind / f"{twice}.{suffix}", root / "test" / kind)
    manifest = build(readers.get("micro"), Root(root), tmp_path / "two", Options(on_bad="skip"))
    assert manifest["left_out_by_reason"] == {"in_test_too": 1}
    assert twice in names(tmp_path / "two" / "test.parquet")
    assert twice not in names(tmp_path / "two" / "rl.parquet")


@pytest.mark.parametrize("fault", [CorpusError, KeyboardInterrupt])
def test_a_build_that_fails_keeps_the_list_of_what_the_old_shards_do_not_have(fault, corpus, tmp_path):
    (corpus / "mer2025-dataset" / "audio" / "clip_07.wav").unlink()
    out = tmp_path / "out"
    run(corpus, out, on_bad="skip")

    def stop(*_):
        raise fault

    with pytest.raises(fault):
        build(readers.get("mer_caption_plus"), Root(corpus), out, Options(on_bad="skip"), stop)
    assert [json.loads(line)["name"] for line in (out / "left_out.jsonl").read_text().splitlines()] == ["clip_07"]
    assert not list(out.glob("left_out.jsonl.*"))


def test_an_interrupted_build_leaves_the_old_shards(corpus, tmp_path):
    run(corpus, tmp_path / "out", sft=5)
    before = (tmp_path / "out" / "sft.parquet").read_bytes()

    def stop(items, what):
        for number, item in enumerate(items):
            if "shards" in what and number == 6:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        build(readers.get("mer_caption_plus"), Root(corpus), tmp_path / "out", Options(sft=6), stop)
    assert (tmp_path / "out" / "sft.parquet").read_bytes() == before
    assert not list((tmp_path / "out").glob("*.part"))


def test_manifest_says_what_decided(corpus, tmp_path):
    manifest = json.loads(json.dumps(run(corpus, tmp_path / "out", sft=5, seed=3, command="python -m data_prep …")))
    assert manifest == json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["seed"] == 3
    assert manifest["published"] == 31_327
    assert set(manifest["inputs_sha256"]) == {
        f"mer2025-dataset/{file}.csv"
        for file in ("track2_train_mercaptionplus", "track3_train_mercaptionplus", "subtitle_chieng")
    }
    assert manifest["wheels"]["name"] == "mer-r1-builtin"


def command(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_command_builds_and_says_what_is_left_out(corpus, tmp_path):
    replace(opensets(corpus), 'clip_04,"[happy, sad]"', 'clip_04,"[table]"')
    done = command("build", "--corpus", "mer_caption_plus", "--root", corpus, "--out", tmp_path / "out", "--sft", 5)
    assert done.exit_code == 0, done.output
    assert "sft 5, rl 6" in done.output
    assert "left out: 1 of 12 (1 label_unmapped)" in done.output
    assert "found 12 clips; the published corpus has 31327" in done.output
    assert "sft.parquet will be empty" not in done.output
    done = command("build", "--corpus", "mer_caption_plus", "--root", corpus, "--out", tmp_path / "rl")
    assert "note: --sft is 0, so sft.parquet will be empty and all clips of mer_caption_plus are for RL" in done.output
    assert "sft 0, rl 11" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--corpus", "nonsense"), "is not one of"),
        (("--corpus", "mer_caption_plus", "--root", "/nowhere"), "/nowhere: no such folder"),
        (("--corpus", "mer_caption_plus", "--wheels", "/nowhere"), "/nowhere"),
        (("--corpus", "mosi", "--sft", "5"), "is a test set"),
        (("--corpus", "mosi", "--sft", "all"), "is a test set"),
        (("--corpus", "mosi", "--sft", "-1"), "'-1' is neither a number of clips"),
        (("--corpus", "mosi"), "subvideo: no such folder"),
    ],
)
def test_command_refuses_with_exit_code_2(arguments, message, corpus, tmp_path):
    defaults = {"--root": corpus, "--out": tmp_path / "out"}
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    done = command("build", *(part for pair in (defaults | given).items() for part in pair))
    assert done.exit_code == 2
    assert message in done.output.replace("\n", ""), done.output


def test_an_archive_is_not_unpacked(corpus, tmp_path):
    packed = Path(shutil.make_archive(str(tmp_path / "mer2025"), "zip", corpus))
    with pytest.raises(CorpusError, match="is an archive; unpack it"):
        Root(packed)
