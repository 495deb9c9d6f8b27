"""The commands of a run, and which settings make its record stale."""

import shutil
from pathlib import Path

import pytest

from recipe.mer_r1.ablation import settings
from recipe.mer_r1.ablation.__main__ import main, with_starts
from recipe.mer_r1.ablation.plan import Plan
from recipe.mer_r1.ablation.table import load_table
from recipe.mer_r1.ablation.work import work
from recipe.mer_r1.run.launch import CONF, compose

OUT = Path("out")


def plan(*changes):
    return Plan(load_table(changes=changes), OUT)


def commands(name, seed=1, *changes):
    made = plan(*changes)
    run = made.run(name, seed)
    return {stage.name: " ".join(stage.command) for stage in [*made.stages_before(run), *run.stages]}


def test_the_stages_of_a_run():
    found = commands("mer_r1", 2)
    assert list(found) == [
        *("corpus-default", "init-default-2", "base-default-2", "sft-default-2"),
        *("rl-mer_r1-2", "eval-mer_r1-2", "confidence-mer_r1-2"),
    ]
    assert found["corpus-default"] == "-m data_prep micro --out out/corpora/default --generator 2 --seed 1"
    assert "--seed 2" in found["init-default-2"]
    base, shards = "out/bases/default-2", "out/corpora/default/shards"
    assert found["base-default-2"] == (
        f"-m recipe.mer_r1.main_sft preset=tiny run_dir={base}/base preset.seed=2 preset.sft.model_path={base}/init "
        f"preset.sft.train_files={shards}/base.parquet stage=base"
    )
    assert (
        f"preset.sft.model_path={base}/base/model preset.sft.train_files={shards}/sft.parquet stage=sft"
        in (found["sft-default-2"])
    )
    assert found["rl-mer_r1-2"] == (
        "-m recipe.mer_r1.main_ppo preset=tiny experiment=mer_r1 run_dir=out/runs/mer_r1-2/rl preset.seed=2 "
        f"preset.model_path=out/starts/default-2/sft/model preset.train_files={shards}/rl.parquet "
        f"preset.val_files={shards}/test.parquet trainer.val_before_train=false preset.validate_every=-1"
    )
    assert "--mode slow,fast,slow_sampled,fast_sampled --samples 4" in found["eval-mer_r1-2"]


def test_rows_of_a_seed_share_their_start_and_controls_have_their_own():
    rows = [plan().run(name, 1).stages[0].after for name in ("baseline", "mer_r1", "b2")]
    assert rows == [("sft-default-1",)] * 3
    perfect = commands("mer_r1_perfect")
    assert perfect["corpus-perfect"].endswith("--generator 2 --reasons perfect --seed 1")
    assert "corpora/perfect/shards/rl.parquet" in perfect["rl-mer_r1_perfect-1"]
    video = commands("videoauto_r1")
    assert video["sft-answer_think_answer-1"].endswith("stage=sft data.form=answer_think_answer")
    assert "bases/default-1/base/model" in video["sft-answer_think_answer-1"]
    shuffled = commands("mer_r1_shuffled")["rl-mer_r1_shuffled-1"]
    assert "experiment=mer_r1 " in shuffled
    assert shuffled.endswith("mer_r1.confidence.shuffle=true")


def test_overrides_of_all_rows_come_before_a_rows_own():
    found = commands("mer_r1_cali1", 1, "common.rl=[preset.steps=4]", "common.sft=[preset.sft.steps=5]")
    assert found["rl-mer_r1_cali1-1"].endswith("preset.steps=4 experiment.lambda_cali=1")
    assert found["sft-default-1"].endswith("stage=sft preset.sft.steps=5")


def test_without_a_base_stage_sft_starts_from_the_untrained_model():
    found = commands(
        "baseline", 1, "bases.default.stage=null", "corpora.default.generator=null", "evaluation.samples=1"
    )
    assert "base-default-1" not in found
    assert "preset.sft.model_path=out/bases/default-1/init" in found["sft-default-1"]
    assert "stage=" not in found["sft-default-1"]
    assert "--generator" not in found["corpus-default"]
    assert "--samples" not in found["eval-baseline-1"]


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        ("", 32),
        ("preset.steps=4", 4),
        ("preset.steps=4,++preset.steps=6", 6),
        ("preset.steps=null,preset.epochs=2", None),
    ],
)
def test_steps_that_the_screen_counts_to(monkeypatch, overrides, steps):
    monkeypatch.setattr("recipe.mer_r1.pipeline.progress.rl", lambda folder, total: total)
    assert plan(f"common.rl=[{overrides}]").run("baseline", 1).stages[0].watch == steps


@pytest.mark.parametrize(
    ("modes", "read"),
    [("slow,fast,slow_sampled", "fast"), ("slow,slow_sampled", "slow"), ("fast_sampled", None)],
)
def test_confidences_are_those_of_the_greedy_modes(modes, read):
    run = plan(f"evaluation.modes=[{modes}]").run("baseline", 1)
    assert run.modes == tuple(modes.split(","))
    results = [stage.result.name for stage in run.stages[2:]]
    assert results == ([f"{read}.confidence.jsonl"] if read else [])
    assert run.optional == (("confidence-baseline-1",) if read else ())


def test_answers_before_a_thought_have_no_confidences():
    """Eq. 8 is about answers behind a thought."""
    made = plan()
    assert [stage.name for stage in made.run("videoauto_r1", 1).stages] == ["rl-videoauto_r1-1", "eval-videoauto_r1-1"]
    names = [stage.name.partition("-")[0] for stage in made.start("answer_think_answer", 1).stages]
    assert names == ["sft", "eval"]


def test_on_gpus_one_command_runs_at_a_time_and_no_evaluation_beside_it():
    made = plan("preset=omni7b")
    assert made.jobs == 1
    assert not any(stage.light for stage in made.run("baseline", 1).stages)


@pytest.mark.parametrize("name", ["mer_r1_shuffled", "mer_r1_cali1", "videoauto_r1"])
def test_the_command_of_rl_composes(name):
    made = plan("common.rl=[preset.steps=4]").run(name, 3)
    config = compose("ppo", list(made.stages[0].command[2:]))
    assert (config.data.seed, config.trainer.total_training_steps) == (3, 4)
    assert config.experiment.name == made.experiment
    assert config.mer_r1.confidence.shuffle == (name == "mer_r1_shuffled")
    assert config.experiment.lambda_cali == (1 if name == "mer_r1_cali1" else 0.1)
    assert config.actor_rollout_ref.model.path == f"out/starts/{made.start}-3/sft/model"
    assert not config.trainer.val_before_train
    assert config.trainer.test_freq == -1


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        ("rows.mer_r1.overrides=[experiment.lambda_cali=0.2]", "mer_r1"),
        ("common.rl=[preset.steps=4]", "baseline mer_r1 mer_r1_perfect"),
        ("common.sft=[preset.sft.steps=4]", "baseline mer_r1 mer_r1_perfect sft"),
        ("corpora.default.clips=9", "baseline mer_r1 mer_r1_perfect sft"),
        ("evaluation.samples=2", "baseline mer_r1 mer_r1_perfect sft"),
        ("corpora.perfect.clips=9", "mer_r1_perfect"),
        ("seeds=[1,2,3,4]", ""),
    ],
)
def test_settings_that_decide_a_result_change_its_fingerprint(change, stale):
    def fingerprints(*changes):
        made = plan(*changes)
        runs = [*(made.run(row, 1) for row in ("baseline", "mer_r1", "mer_r1_perfect")), made.start("default", 1)]
        return {run.row: run.settings_sha256 for run in runs}

    before, after = fingerprints(), fingerprints(change)
    assert " ".join(name for name in before if before[name] != after[name]) == stale
    elsewhere = Plan(load_table(), Path("elsewhere"))
    assert elsewhere.run("mer_r1", 1).settings_sha256 == before["mer_r1"]


def test_what_a_stage_changes_of_the_preset_counts(monkeypatch, tmp_path):
    before = plan().start("default", 1).settings_sha256, plan().base("default", 1)[1].settings
    assert plan().start("default", 1).settings["stages"]["base"]["preset"]["sft"]["fast_fraction"] == 1.0
    monkeypatch.setattr("recipe.mer_r1.ablation.settings.of_stage", lambda name: {"preset": {"sft": {"lr": 1.0}}})
    after = plan().start("default", 1).settings_sha256, plan().base("default", 1)[1].settings
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_each_start_is_evaluated_before_the_first_run_that_needs_it():
    made = plan()
    runs = with_starts(made, [("baseline", 1), ("mer_r1", 1), ("videoauto_r1", 1)])
    assert [run.name for run in runs] == [
        *("sft-1", "baseline-1", "mer_r1-1", "sft_answer_think_answer-1", "videoauto_r1-1")
    ]
    names = [stage.name for stage in work(made, runs).stages]
    assert len(set(names)) == len(names)
    assert [stage.light for stage in runs[1].stages] == [False, True, True]
    assert names.index("base-default-1") < names.index("eval-sft-1") < names.index("rl-baseline-1")


def test_names_and_rows_are_listed_for_other_programs(capsys):
    assert main(["list", "--rows", "--only", "baseline", "mer_r1_cali1"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "baseline default experiment=baseline",
        "mer_r1_cali1 default experiment=mer_r1 experiment.lambda_cali=1",
    ]
    assert main(["list", "--names", "--only", "rd", "b2", "--seeds", "1", "3"]) == 0
    assert capsys.readouterr().out.splitlines() == ["b2-1", "b2-3", "rd-1"]


def test_wrong_input_ends_with_2(capsys, tmp_path):
    assert main(["run", "--jobs", "0", "--out", str(tmp_path), "--results", str(tmp_path)]) == 2
    assert "--jobs 0: must be at least 1" in capsys.readouterr().err
    assert main(["run", "--only", "mer_r7"]) == 2
    assert "--only mer_r7: use rows of the table: baseline, rd" in capsys.readouterr().err
    assert main(["run", "--seeds", "1", "9"]) == 2
    assert "--seeds 9: no row is run on it" in capsys.readouterr().err
    assert main(["list", "--rows", "--only", "mer_r7"]) == 2
    with pytest.raises(SystemExit, match="2"):
        main(["run", "--redo", "--keep"])
    assert main(["run", "--only", "rd", "--task", "1", "--out", str(tmp_path)]) == 2
    assert "--task 1: the runs are 0 to 0" in capsys.readouterr().err


def test_only_what_decides_numbers_is_a_setting(tmp_path, monkeypatch):
    """A cache or a number of processes may differ between machines; a learning rate may not."""
    monkeypatch.setattr(settings, "CONF", tmp_path / "conf")
    shutil.copytree(CONF, tmp_path / "conf")
    preset = tmp_path / "conf" / "preset" / "tiny.yaml"
    before = plan().run("mer_r1", 1).settings_sha256
    text = preset.read_text()
    same = ("cache_gb: 10 ", "decode_seconds: 120.0", "workers: 1 ", "cache_clips: 4096", "poll_seconds: 0.05")
    for line in (*same, "score_every: 0", "score_clips: 64"):
        assert text.count(line) == 1, line
        text = text.replace(line, line.replace(": ", ": 7"))
    preset.write_text(text)
    assert plan().run("mer_r1", 1).settings_sha256 == before
    start = plan().start("default", 1).settings_sha256
    preset.write_text(text.replace("  dtype: float32", "  dtype: bfloat16"))  # of vLLM, which answers the test clips
    assert plan().start("default", 1).settings_sha256 != start
    preset.write_text(text.replace("  lr: 1.5e-3", "  lr: 1.6e-3"))  # of SFT, from which the run starts
    assert plan().run("mer_r1", 1).settings_sha256 != before
