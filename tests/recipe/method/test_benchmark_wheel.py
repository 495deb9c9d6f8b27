"""`benchmarks/wheel.py`: its switches; the figures themselves are no matter of a test."""

import importlib.util
import json
from pathlib import Path

import pytest


@pytest.fixture
def benchmark(monkeypatch):
    path = Path(__file__).resolve().parents[3] / "benchmarks" / "wheel.py"
    spec = importlib.util.spec_from_file_location("benchmark_wheel", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "speed", lambda load: {"load_again_s": 0.04, "reward_us": 9.1})
    return module


def test_json_is_a_switch_and_out_a_file(benchmark, tmp_path, capsys):
    benchmark.main(["--json", "--wheels", str(tmp_path), "--out", str(tmp_path / "figures.json")])
    printed = capsys.readouterr()
    figures = json.loads(printed.out)
    assert figures["speed"] == {"builtin": {"load_again_s": 0.04, "reward_us": 9.1}}
    assert "distance" not in figures
    assert json.loads((tmp_path / "figures.json").read_text(encoding="utf-8")) == figures
    assert f"{tmp_path / 'emotion_wheel' / 'mer2025'} does not exist" in printed.err


def test_without_it_a_table(benchmark, shared, monkeypatch, capsys):
    monkeypatch.setenv("MER_R1_SHARED", str(shared))
    benchmark.main([])
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split() == ["builtin", "mer2025", "mer2026"]
    assert "builtin against mer2026" in printed


def test_a_folder_to_write_to_is_asked_for_before_measuring(benchmark, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        benchmark.main(["--out", str(tmp_path / "no" / "figures.json")])
    assert stop.value.code == 2
    assert "make it first" in capsys.readouterr().err
