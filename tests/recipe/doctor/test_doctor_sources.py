"""Where corpora, wheels and models come from, and what the doctor says of those that a preset needs."""

import re
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from data_prep.readers import NAMES
from recipe.mer_r1.doctor import __main__ as doctor
from recipe.mer_r1.doctor import inputs, machine, sources
from recipe.mer_r1.doctor.outcome import Subject

PAGE = Path(__file__).parents[3] / "docs" / "sources.md"


def test_the_page_and_the_doctor_say_the_same_of_every_reader(capsys):
    rows = [[cell.strip().strip("`<>") for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines()]
    found = {row[0]: row[1:] for row in rows if len(row) == 6}
    wanted = {one.name: [one.page, one.licence, one.access, one.size, one.folder] for one in sources.ALL}
    assert {name: found[name] for name in wanted} == wanted
    assert set(NAMES) - {one.name for one in sources.CORPORA} == set()
    assert doctor.main(["--sources"]) == 0
    said = capsys.readouterr().out
    assert all(part in said for parts in wanted.values() for part in parts)


@pytest.fixture(scope="module")
def omni7b():
    """Composed once; its preset starts SFT from a name on a hub."""
    return Subject("omni7b")


def starting_from(subject, model):
    made = Subject("omni7b")
    vars(made)["config"] = subject.config.copy()
    made.preset.sft.model_path = model
    return made


def shard(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table({"a": list(range(rows))}), path)
    return path


def test_shards_that_are_missing_empty_or_there(omni7b, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = inputs.check_shards(omni7b)
    assert outcome.status == "warning"
    assert "preset.sft.train_files=data/mer_caption_plus/shards/sft.parquet" in outcome.seen
    assert "preset.val_files=data/ov_merd_plus/shards/test.parquet" in outcome.seen
    assert "https://huggingface.co/datasets/MERChallenge/MER2025 (licence: CC BY-NC 4.0" in outcome.fix
    assert "data_prep build --corpus mer_caption_plus --root DIR --out data/mer_caption_plus/shards" in outcome.fix
    for name, rows in (("mer_caption_plus/shards/rl", 7), ("ov_merd_plus/shards/test", 5)):
        shard(tmp_path / "data" / f"{name}.parquet", rows)
    empty = shard(tmp_path / "data" / "mer_caption_plus" / "shards" / "sft.parquet", 0)
    outcome = inputs.check_shards(omni7b)
    assert (outcome.status, "sft.parquet: has no rows" in outcome.seen, "--sft 5000" in outcome.fix) == (
        "failed",
        True,
        True,
    )
    shard(empty, 3)
    outcome = inputs.check_shards(omni7b)
    assert (outcome.status, "rl.parquet 7 rows" in outcome.seen) == ("ok", True)
    empty.write_bytes(b"no parquet")
    assert inputs.check_shards(omni7b).status == "failed"


def test_the_base_model_of_a_preset(omni7b, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    outcome = inputs.check_base_model(omni7b)
    assert outcome.status == "warning"
    assert "22.4 GB" in outcome.seen
    assert "hf download Qwen/Qwen2.5-Omni-7B --local-dir models/Qwen2.5-Omni-7B" in outcome.fix
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: "/cache/config.json")
    assert inputs.check_base_model(omni7b).status == "ok"
    assert "make demo" in inputs.check_base_model(starting_from(omni7b, "outputs/demo/base/model")).fix
    assert inputs.check_base_model(starting_from(omni7b, str(tmp_path))).status == "ok"


@pytest.mark.parametrize(("free_gib", "status"), [(332, "failed"), (334, "ok")])
def test_the_disk_for_a_model_that_is_not_here_yet(omni7b, tmp_path, monkeypatch, free_gib, status):
    """8.93 billion parameters, three checkpoints of 12 bytes each and a model of 4: 357 GB, 332.7 GiB."""
    usage = machine.shutil.disk_usage(tmp_path)._replace(free=free_gib * 2**30)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage)
    outcome = machine.check_disk(omni7b)
    assert (outcome.status, bool(re.search(r"need 332\.67 GiB", outcome.seen))) == (status, True)
