"""The demo's commands: what a user would type, and that they read what the stages before them write."""

from dataclasses import replace
from pathlib import Path

import pytest
from demo_cases import STAGES
from omegaconf import OmegaConf

from recipe.mer_r1.demo.stages import DEFAULT_OUT, ROWS, SCALES, Scale, plan
from recipe.mer_r1.run.launch import CONF


def command(out, name, scale=None):
    stages = {stage.name: stage for stage in plan(Path(out), scale or SCALES["full"])}
    return " ".join(stages[name].command)


def test_the_order_is_that_of_the_main_job():
    assert tuple(stage.name for stage in plan(DEFAULT_OUT, Scale())) == STAGES


def test_a_stage_reads_what_an_earlier_one_wrote():
    seen = set()
    for stage in plan(DEFAULT_OUT, Scale()):
        assert set(stage.after) <= seen
        seen.add(stage.name)
        assert stage.result.is_relative_to(stage.folder)


def test_no_two_stages_share_a_folder():
    folders = [stage.folder for stage in plan(DEFAULT_OUT, Scale())]
    assert len({*folders}) == len(folders)


def test_commands_are_short_in_the_default_folder():
    assert (
        command(DEFAULT_OUT, "base") == "-m recipe.mer_r1.main_sft stage=base run_dir=outputs/demo/base preset.seed=1"
    )
    assert command(DEFAULT_OUT, "sft") == "-m recipe.mer_r1.main_sft run_dir=outputs/demo/sft preset.seed=1"
    assert command(DEFAULT_OUT, "mer_r1") == (
        "-m recipe.mer_r1.main_ppo experiment=mer_r1 run_dir=outputs/demo/mer_r1 preset.seed=1 "
        "trainer.val_before_train=false preset.validate_every=-1 trainer.rollout_data_dir=outputs/demo/mer_r1/rollouts"
    )


def test_both_rows_start_from_the_same_model_and_prompts(tmp_path):
    first, second = (command(tmp_path, row) for row in ROWS)
    assert first.replace("baseline", "mer_r1") == second


def test_another_folder_moves_every_path_of_the_preset(tmp_path):
    preset = OmegaConf.to_yaml(OmegaConf.load(CONF / "preset" / "tiny.yaml"))
    said = " ".join(command(tmp_path, name) for name in ("base", "sft", "baseline"))
    assert str(DEFAULT_OUT) not in said
    for line in preset.splitlines():
        if f"{DEFAULT_OUT}/" in line:
            assert line.split(f"{DEFAULT_OUT}/")[1] in said
    assert f"preset.model_path={tmp_path}/sft/model" in command(tmp_path, "baseline")
    assert f"preset.sft.model_path={tmp_path}/init " in command(tmp_path, "base")
    assert f"preset.sft.model_path={tmp_path}/base/model" in command(tmp_path, "sft")
    assert "preset.sft" not in command(tmp_path, "baseline")


@pytest.mark.parametrize("out", ["outputs/demo", "/elsewhere/demo"])
@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_overrides_compose(out, scale):
    """Every override of main_sft and main_ppo is a key that there is."""
    from importlib.util import find_spec

    import hydra
    from hydra.core.global_hydra import GlobalHydra

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERL_CONFIG_DIR", f"{find_spec('verl').submodule_search_locations[0]}/trainer/config")
        for name, config in (("base", "sft"), ("sft", "sft"), ("baseline", "ppo"), ("mer_r1", "ppo")):
            GlobalHydra.instance().clear()
            with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
                found = hydra.compose(config, command(out, name, scale).split()[2:])
            assert found.run_dir == f"{out}/{name}"


def test_rl_steps_are_passed_on():
    assert "preset.steps=45" in command("outputs/demo", "mer_r1", replace(SCALES["full"], rl_steps=45))


def test_the_demo_takes_thirty_rl_steps_at_least():
    assert SCALES["full"].rl_steps is None  # the preset's
    assert OmegaConf.load(CONF / "preset" / "tiny.yaml").steps >= 30
