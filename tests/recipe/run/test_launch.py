"""The entry points answer help and wrong overrides in seconds, with something useful."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recipe.mer_r1.run import launch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


def call(module, *arguments, python=()):
    """(exit code, stdout, stderr) of an entry point."""
    process = subprocess.run(
        [sys.executable, *python, "-m", f"recipe.mer_r1.{module}", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return process.returncode, process.stdout, process.stderr


@pytest.fixture
def refused(monkeypatch, capsys):
    """What an entry point prints before it ends with exit code 2."""

    def run(module, *arguments):
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        with pytest.raises(SystemExit) as end:
            launch.run(module.removeprefix("main_"), lambda config: pytest.fail("the run began"))
        assert end.value.code == 2
        return capsys.readouterr().err

    return run


def test_a_mistake_is_found_before_anything_heavy_is_imported():
    code, _, err = call("main_ppo", "preset.step=3", "experiment.rewards=1", python=("-X", "importtime"))
    assert code == 2
    assert "unknown key preset.step:" in err
    assert "unknown key experiment.rewards:" in err
    timings = [line for line in err.splitlines() if line.startswith("import time:")]
    imported = {line.split("|")[-1].strip().split(".")[0] for line in timings}
    assert "hydra" in imported
    assert not imported & {"torch", "verl", "transformers", "ray", "vllm"}


@pytest.mark.parametrize("module", ["main_ppo", "main_sft"])
def test_help_names_choices_and_keys(module):
    code, out, _ = call(module, "--help")
    assert code == 0
    assert "preset: " in out
    assert "tiny" in out
    assert f"python -m recipe.mer_r1.{module}" in out
    assert ("experiment: " in out, "stage: " in out) == (module == "main_ppo", module == "main_sft")


@pytest.mark.parametrize(
    ("module", "override", "hint"),
    [
        ("main_ppo", "preset.step=3", "preset.steps"),
        ("main_ppo", "actor_rollout_ref.actor.optim.learning_rate=1e-4", "actor_rollout_ref.actor.optim.lr"),
        ("main_ppo", "lr=1e-4", "preset.lr"),
        ("main_sft", "preset.sft.lrr=1e-4", "preset.sft.lr"),
    ],
)
def test_an_unknown_key_is_an_error_that_suggests_the_right_one(refused, module, override, hint):
    err = refused(module, override)
    key = override.split("=")[0]
    assert f"unknown key {key}: did you mean" in err
    assert hint in err.split("did you mean")[1]
    assert err.startswith(f"{module}: unknown key {key}: did you mean")  # Hydra itself would have it added with a plus
    assert "append" not in err
    assert "Traceback" not in err


def test_what_has_another_type_is_named_before_anything_starts():
    code, _, err = call("main_ppo", "preset.steps=abc", "verbose=loud")
    assert (code, err.splitlines()) == (
        2,
        [
            "main_ppo: preset.steps='abc': expected a whole number from 1, or null, but got text",
            "main_ppo: verbose='loud': expected true or false",
        ],
    )


def test_a_missing_model_folder_is_named_before_anything_heavy_is_imported(tmp_path):
    arguments = (f"preset.model_path={tmp_path / 'none'}", f"run_dir={tmp_path / 'run'}")
    code, _, err = call("main_ppo", *arguments, python=("-X", "importtime"))
    assert code in (1, 2)
    assert f"preset.model_path={tmp_path / 'none'}: no such folder. Train one with main_sft" in err
    imported = {line.split("|")[-1].strip().split(".")[0] for line in err.splitlines() if line.startswith("import")}
    assert not imported & {"torch", "verl", "transformers", "ray", "vllm"}


@pytest.mark.parametrize("group", ["preset", "experiment"])
def test_an_unknown_choice_lists_the_choices(refused, group):
    err = refused("main_ppo", f"{group}=enormous")
    assert f"Could not find '{group}/enormous'" in err
    assert f"Available options in '{group}':" in err
    for file in (ROOT / "conf" / group).glob("*.yaml"):
        assert file.stem in err
    assert "Traceback" not in err


def test_an_override_without_a_value_is_an_error(refused):
    assert "missing EQUAL" in refused("main_ppo", "preset")


def test_the_composed_configuration_can_be_printed():
    code, out, _ = call("main_ppo", "--cfg", "job", "-p", "preset")
    assert code == 0
    assert "name: tiny" in out


def test_warnings_are_heard_after_vllms_server_is_imported():
    """A library of vLLM's server sets the root logger's level at import."""
    code = (
        "import logging; logging.basicConfig(level=logging.WARNING)\n"
        "from recipe.mer_r1.run import launch; launch.prepare_environment('cpu', '')\n"
        "import model_hosting_container_standards.logging_config\n"
        "logging.getLogger('verl_ext.data.clip_cache').warning('no space left')"
    )
    unset = {name: value for name, value in os.environ.items() if not name.endswith("LOG_LEVEL")}
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=unset, capture_output=True, text=True)
    assert (process.returncode, "no space left" in process.stderr) == (0, True), process.stderr
