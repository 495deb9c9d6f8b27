"""benchmarks/gpu/cores.py and cost.py on a CPU: alone with torch and transformers, and with planted faults."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import bare_machine
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.seam


@pytest.fixture(scope="module")
def cores():
    import cores

    return cores


@pytest.fixture(scope="module")
def float32():
    import torch

    return torch.float32


def test_cores_pass_where_only_torch_and_transformers_are(tmp_path):
    bare = bare_machine.make(tmp_path / "bare")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(bare), "PYTHON": str(python), "OUT": str(tmp_path / "out")}
    env |= {"DEVICE": "cpu", "SMALL": "1", "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    code = "import sys, importlib.util as u; sys.path.insert(0, 'benchmarks/gpu'); import cost; "
    code += "print([n for n in %r if u.find_spec(n)])"
    absent = ["verl", "ray", "vllm", "tensordict", "hydra", "omegaconf", "pandas", "peft", "wrapt", "av", "accelerate"]
    seen = subprocess.run([python, "-c", code % absent], cwd=ROOT, env=env, capture_output=True, text=True)
    assert seen.stdout.strip() == "[]", seen.stderr

    done = subprocess.run(["benchmarks/gpu/run.sh", "cores"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    records = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out" / "cores").glob("*.json")}
    assert len(records) == 17
    assert {record["status"] for record in records.values()} == {"passed"}
    assert "verl" not in records["mask"]["machine"]
    assert records["pack-fp32"]["values"]["max"] < 1e-5
    assert records["seen-position-fp32"]["values"]["max"] > 0.1
    assert records["seen-mask-bf16"]["values"]["max"] > 1


def test_an_ignored_mask_fails(cores, float32, monkeypatch):
    import torch

    from verl_ext.actor import shared_prompt

    made = shared_prompt.Packed.attention_mask.func
    ignored = property(lambda packed: torch.ones_like(made(packed)).tril())
    monkeypatch.setattr(shared_prompt.Packed, "attention_mask", ignored)
    assert not cores.pack_case("cpu", float32, True)["passed"]
    assert not cores.pack_case("cpu", cores.DTYPES["bf16"], True)["passed"]
    assert not cores.mask_case("cpu", True)["passed"]


def test_branch_positions_one_off_fail(cores, float32, monkeypatch):
    pack = cores.pack

    def shifted(samples, groups, **options):
        packed = pack(samples, groups, **options)
        positions = packed.position_ids.clone()
        for sample, start in zip(samples, packed.branch_starts, strict=True):
            positions[1:].flatten(1)[:, start : start + len(sample.branch)] += 1
        return replace(packed, position_ids=positions)

    monkeypatch.setattr(cores, "pack", shifted)
    assert not cores.pack_case("cpu", float32, True)["passed"]


def test_media_positions_one_off_fail(cores, monkeypatch):
    import cores_thinker

    made = cores_thinker.position_ids

    def shifted(rope, ids, media):
        positions = made(rope, ids, media).clone()
        positions[1:][:, ids == cores_thinker.VIDEO] += 1
        return positions

    monkeypatch.setattr(cores_thinker, "position_ids", shifted)
    assert not cores.position_case(None, True)["passed"]


def test_sums_in_bfloat16_fail(cores, monkeypatch):
    made = cores.set_log_probs

    def rounded(logits, labels, sets):
        return made(logits, labels, sets).bfloat16().float()

    monkeypatch.setattr(cores, "set_log_probs", rounded)
    assert not cores.set_log_probs_case("cpu", cores.DTYPES["bf16"], 8, 512)["passed"]


def test_undefined_signals_that_count_fail(cores, float32, monkeypatch):
    made = cores.advantage.combine

    def filled(signals, group, terms):
        return made({name: values.nan_to_num() for name, values in signals.items()}, group, terms)

    monkeypatch.setattr(cores.advantage, "combine", filled)
    assert not cores.advantage_case("cpu", float32)["passed"]


def test_nan_is_not_within_a_limit(cores):
    import torch

    values = cores.judged(cores.gaps(torch.tensor([1.0, torch.nan]), torch.ones(2)), 1.0, 1.0)
    assert values["passed"] is False
    infinite = torch.tensor([-torch.inf])
    assert cores.gaps(infinite, infinite) == {"max": 0.0, "mean": 0.0}
    assert cores.gaps(infinite, torch.zeros(1))["max"] == torch.inf


@pytest.mark.parametrize("shape", ["small", "3b", "7b"])
def test_the_timed_products_are_those_of_the_model(shape):
    """Their operations are the model's without attention, which flops.py counts from the config."""
    import cost
    import torch

    from verl_ext.models.flops import text_forward

    tokens = 1200
    with torch.device("meta"):
        config = cost.forward.make_model(cost.forward.SHAPES[shape], torch.bfloat16, "meta").config.text_config
    counted = sum(
        2 * rows * inner * columns * times
        for rows, inner, columns, times in cost.products(cost.forward.SHAPES[shape], tokens).values()
    )
    attention = config.num_hidden_layers * 2 * tokens**2 * config.hidden_size
    assert counted == text_forward(config, [tokens]) - attention


def test_a_floor_is_the_operations_over_the_rate():
    import cost

    assert cost.rate({"a": 6e12, "b": 2e12}, {"a": 3.0, "b": 1.0}) == 2.0
    assert cost.floors({"one": 4e12}, tflops=2.0) == {"one": 2.0}
