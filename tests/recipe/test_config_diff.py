"""`config diff`: what differs between runs and presets, and which keys only follow others."""

import json

import pytest
from omegaconf import OmegaConf

from recipe.mer_r1.config import main
from recipe.mer_r1.run import launch, record

pytestmark = pytest.mark.slow  # each comparison composes the tree two times


@pytest.fixture(scope="module")
def composed():
    return launch.compose("ppo", ["experiment=mer_r1"])


def write_run(folder, config, **versions):
    folder.mkdir()
    OmegaConf.save(config, folder / record.CONFIG)
    start = {"stage": "ppo", "command": f"python {folder.name}", "git": "abc", "versions": {"vllm": "1"} | versions}
    (folder / record.STARTS).write_text(json.dumps(start) + "\n")
    return str(folder)


def test_a_runs_keys_beside_those_of_overrides(composed, tmp_path, capsys):
    run = write_run(tmp_path / "one", composed)
    assert main(["diff", run, "experiment=mer_r1 preset.steps=7 +mer_r1.mine=1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        f"A: {run}",
        "B: experiment=mer_r1 preset.steps=7 +mer_r1.mine=1",
        "preset.steps: 32 → 7",
        "mer_r1.mine: (not there) → 1",
    ]
    assert lines[4:] == [f"{len(lines) - 4} more keys follow these (--all prints them)"]
    assert main(["diff", run, "experiment=mer_r1 preset.steps=7", "--all"]) == 0
    assert "trainer.total_training_steps: 32 → 7   (follows preset.steps)" in capsys.readouterr().out


def test_two_runs_of_other_code_and_another_experiment(composed, tmp_path, capsys):
    other = composed.copy()
    other.experiment.paper.table_1 = {"mean": 1.0}  # the paper's numbers are no settings
    one, two = write_run(tmp_path / "one", composed), write_run(tmp_path / "two", other, vllm="2")
    assert main(["diff", one, two]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"A: {one}",
        f"B: {two}",
        "no key differs",
        "command: python one → python two",
        "vllm: 1 → 2",
    ]
    other.preset.lr = 0.5
    OmegaConf.save(other, tmp_path / "two" / record.CONFIG)
    assert main(["diff", one, two, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["keys"] == {"preset.lr": {"a": 1e-4, "b": 0.5, "follows": None}}


def test_what_is_no_run_is_refused(composed, tmp_path, capsys):
    assert main(["diff", str(tmp_path), "preset=tiny"]) == 2
    assert f"{tmp_path}: has no config.yaml" in capsys.readouterr().err
