"""Where a shard's clips are: relative paths stay under their root, embedded clips are read by row group."""

import os
import pickle
from pathlib import Path

import embedded_shard
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from verl_ext.data import embedded, shard_media
from verl_ext.data.dataset import ShardError, check_rows, load_shard
from verl_ext.data.demux import MediaError, fetch
from verl_ext.data.embedded import EmbeddedClip


@pytest.fixture
def relative(rows, micro_corpus):
    """Rows of the corpus by relative path."""
    return [
        {**row, **{key: [os.path.relpath(file, micro_corpus) for file in row[key]] for key in ("videos", "audios")}}
        for row in rows[:3]
    ]


@pytest.fixture
def whole(rows, tmp_path):
    """A shard with the clips of five rows, two rows a group."""
    return embedded_shard.write_embedded(rows[:5], tmp_path / "clips #1?.parquet")


def complaint(call, *arguments, error=ShardError, **keywords):
    with pytest.raises(error) as caught:
        call(*arguments, **keywords)
    return str(caught.value)


# -- relative paths ----------------------------------------------------------------------------------------------------


def test_relative_paths_start_from_the_root_that_the_shard_names(relative, rows, micro_corpus, tmp_path):
    shard = load_shard(embedded_shard.write(relative, tmp_path / "x.parquet", str(micro_corpus)))
    assert shard["videos"][:] == [row["videos"] for row in rows[:3]]
    assert shard["audios"][:] == [row["audios"] for row in rows[:3]]


def test_a_corpus_that_moved_is_found_by_media_root(relative, micro_corpus, tmp_path):
    path = embedded_shard.write(relative, tmp_path / "x.parquet", "/where/it/was")
    assert "row 0: `videos` file not found: /where/it/was/train/video" in complaint(check_rows, load_shard(path), path)
    check_rows(load_shard(path, media_root=micro_corpus), path)


def test_a_media_root_that_is_relative_starts_from_the_working_folder(relative, micro_corpus, tmp_path, monkeypatch):
    path = embedded_shard.write(relative, tmp_path / "x.parquet")
    monkeypatch.chdir(micro_corpus.parent)
    shard = load_shard(path, media_root=micro_corpus.name)
    monkeypatch.chdir(tmp_path)
    check_rows(shard, path)


def test_absolute_paths_need_no_root_and_ignore_one(rows, tmp_path):
    path = embedded_shard.write(rows[:3], tmp_path / "x.parquet")
    assert load_shard(path, media_root="/elsewhere")["videos"][:] == [row["videos"] for row in rows[:3]]


def test_a_relative_path_without_a_root_names_file_row_key_and_way_out(relative, rows, tmp_path):
    path = embedded_shard.write([rows[0], relative[1]], tmp_path / "x.parquet")
    message = complaint(load_shard, path)
    assert f"{path} row 1: `videos` is the relative path {relative[1]['videos'][0]!r}" in message
    assert "preset.media_root" in message
    assert "--media-root" in message


@pytest.mark.parametrize("way_out", ["../outside.mp4", "train/../../outside.mp4", "link.mp4", "folder/outside.mp4"])
def test_a_path_that_leaves_the_root_is_refused(way_out, relative, tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "train").mkdir(parents=True)
    outside.mkdir()
    for place in (tmp_path, outside):
        (place / "outside.mp4").write_bytes(b"x")
    (root / "link.mp4").symlink_to(outside / "outside.mp4")
    (root / "folder").symlink_to(outside)
    relative[2]["audios"] = [way_out]
    path = embedded_shard.write(relative, tmp_path / "x.parquet", str(root))
    assert f"row 2: `audios`: {way_out!r} points outside the media root {root}" in complaint(load_shard, path)


def test_links_may_lead_where_the_shard_says(relative, micro_corpus, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "train").symlink_to(micro_corpus / "train")
    path = embedded_shard.write(relative, tmp_path / "x.parquet", str(root))
    assert "points outside the media root" in complaint(load_shard, path)
    table = pq.read_table(path)
    links = {b"media_links": f"/elsewhere\n{micro_corpus}".encode()}
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | links), path)
    check_rows(load_shard(path), path)


def test_links_inside_the_root_and_to_the_root_are_followed(relative, micro_corpus, tmp_path):
    (tmp_path / "link").symlink_to(micro_corpus)
    path = embedded_shard.write(relative, tmp_path / "x.parquet", str(tmp_path / "link"))
    check_rows(load_shard(path), path)


@pytest.mark.parametrize("bad", ["", None])
def test_an_empty_path_is_named(bad, rows, tmp_path):
    path = embedded_shard.write([rows[0], {**rows[1], "audios": [bad]}], tmp_path / "x.parquet")
    assert "row 1: `audios` has an empty path" in complaint(load_shard, path)


def test_another_type_is_named(rows, tmp_path):
    path = embedded_shard.write([{**row, "videos": row["videos"][0]} for row in rows[:2]], tmp_path / "x.parquet")
    message = complaint(load_shard, path)
    assert "`videos` has type string" in message
    assert "struct<path: string, bytes: binary>" in message


# -- embedded clips ----------------------------------------------------------------------------------------------------


def test_references_find_every_clip(whole, rows):
    shard = load_shard(whole)
    check_rows(shard, whole)
    for row, wanted in zip(shard, rows, strict=False):
        for key in ("videos", "audios"):
            found = [fetch(reference) for reference in row[key]]
            assert [clip.data for clip in found] == [Path(file).read_bytes() for file in wanted[key]]
            assert str(whole) in found[0].name
            assert found[0].open().name == Path(wanted[key][0]).name


def test_references_survive_selection_and_shuffling(whole, rows):
    shard = load_shard(whole).select([4, 1])
    assert [fetch(row["videos"][0]).data for row in shard] == [Path(rows[i]["videos"][0]).read_bytes() for i in (4, 1)]


def test_a_reference_and_its_parts_are_one_another():
    clip = EmbeddedClip("/a b/#1?.parquet", "audios", 3, 1, "vidéo/x#?&=.mp4")
    assert EmbeddedClip.parse(clip.reference()) == clip
    assert EmbeddedClip.parse("/a/path.mp4") is None
    assert EmbeddedClip.parse(Path("shard:/x")) is None


def test_loading_leaves_the_bytes_in_the_file(whole, monkeypatch):
    wanted, read = [], pq.ParquetFile.read
    monkeypatch.setattr(
        pq.ParquetFile, "read", lambda self, columns: wanted.extend(columns) or read(self, columns=columns)
    )
    shard = load_shard(whole)
    assert not [leaf for leaf in wanted if "bytes" in leaf]
    assert any(leaf.startswith("extra_info.") for leaf in wanted)
    assert shard.data.nbytes < 20_000


def test_rows_in_order_read_a_group_once(whole, monkeypatch):
    groups, read = [], pq.ParquetFile.read_row_group

    def reading(self, number, **more):
        groups.append(number)
        return read(self, number, **more)

    monkeypatch.setattr(embedded, "_files", embedded._Files())
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", reading)
    for reference in load_shard(whole)["videos"]:
        fetch(reference[0])
    assert groups == [0, 1, 2]


def test_a_shard_written_anew_is_read_anew(whole, rows):
    reference = load_shard(whole)["videos"][0][0]
    before = fetch(reference).data
    embedded_shard.write_embedded(rows[3:5], whole)
    assert fetch(reference).data == Path(rows[3]["videos"][0]).read_bytes() != before


def test_a_shard_that_is_gone_or_shorter_is_named(whole, rows):
    reference = load_shard(whole)["videos"][4][0]
    embedded_shard.write_embedded(rows[:2], whole)
    message = complaint(fetch, reference, error=MediaError)
    assert f"{whole} row 4 `videos`" in message
    assert "2 rows" in message
    whole.unlink()
    assert "Make the shard again" in complaint(fetch, reference, error=MediaError)


def test_a_clip_without_bytes_is_named(rows, tmp_path):
    table = pq.read_table(embedded_shard.write_embedded(rows[:2], tmp_path / "x.parquet"))
    empty = pa.array([[{"path": "a.mp4", "bytes": b""}], [{"path": "b.mp4", "bytes": None}]], embedded_shard.EMBEDDED)
    pq.write_table(table.set_column(table.column_names.index("videos"), "videos", empty), tmp_path / "x.parquet")
    for at, name in enumerate(("a.mp4", "b.mp4")):
        message = complaint(fetch, load_shard(tmp_path / "x.parquet")["videos"][at][0], error=MediaError)
        assert f"row {at} `videos` ({name}) has no bytes" in message


def test_groups_too_large_to_be_read_for_a_clip_are_refused(whole, monkeypatch):
    monkeypatch.setattr(shard_media, "LARGEST_GROUP", 1000)
    message = complaint(load_shard, whole)
    assert "row group 0" in message
    assert "fewer rows per group" in message


def test_data_preps_own_shards_are_read(micro_corpus, tmp_path):
    from data_prep import rows as writer
    from data_prep.places import Root

    with writer.ShardWriter(tmp_path / "x.parquet", writer.schema(Root(micro_corpus), embed=True)) as out:
        for row in writer.read(micro_corpus / "shards" / "rl.parquet"):
            for column in ("videos", "audios"):
                row[column] = [{"path": path, "bytes": (micro_corpus / path).read_bytes()} for path in row[column]]
            out.write(row)
    by_path, inside = load_shard(micro_corpus / "shards" / "rl.parquet"), load_shard(tmp_path / "x.parquet")
    assert inside.column_names == by_path.column_names
    assert all(
        fetch(mine["audios"][0]).data == Path(other["audios"][0]).read_bytes()
        for mine, other in zip(inside, by_path, strict=True)
    )


def test_a_forked_worker_reads_on_its_own(whole, rows):
    import multiprocessing

    fork = multiprocessing.get_context("fork")  # without a pool, whose threads may fork a worker while they end
    references = [row[0] for row in load_shard(whole)["videos"]]
    fetch(references[0])
    here, there = fork.Pipe()
    worker = fork.Process(target=lambda: there.send([fetch(reference).data for reference in references]))
    worker.start()
    assert here.poll(60)
    found = here.recv()
    worker.join()
    assert found == [Path(row["videos"][0]).read_bytes() for row in rows[:5]]
    assert len(pickle.dumps(references[0])) < 400
