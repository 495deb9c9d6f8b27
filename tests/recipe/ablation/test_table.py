"""The table: what is in conf/ablation.yaml, its order, and how a fault is named."""

import pytest
from omegaconf import OmegaConf

from recipe.mer_r1.ablation.table import DEFAULT_TABLE, load_table
from recipe.mer_r1.files.errors import InputError

PAPER_ROWS = ["baseline", "rd", "rd_ad", "mer_r1", "a1", "a2", "b1", "b2", "videoauto_r1", "gdpo"]


def test_the_table_of_the_paper():
    table = load_table()
    assert list(table.rows) == PAPER_ROWS
    assert {name for name in table.everything if {1, 2, 3} <= set(table.seeds_of(name))} == {
        *("baseline", "rd_ad", "mer_r1", "b1", "b2", "mer_r1_fmt1")
    }
    assert all(name == row.experiment for name, row in table.rows.items())
    assert table.controls["mer_r1_shuffled"].overrides == ["mer_r1.confidence.shuffle=true"]
    assert [row.overrides for name, row in table.controls.items() if "cali" in name] == [
        ["experiment.lambda_cali=0.3"],
        ["experiment.lambda_cali=1"],
        ["experiment.lambda_cali=1", "mer_r1.confidence.shuffle=true"],
    ]
    assert table.corpora[table.starts["perfect"].corpus].reasons == "perfect"
    assert table.starts[table.rows["videoauto_r1"].start].overrides == ["data.form=answer_think_answer"]
    assert table.evaluation.samples == 4


def test_rows_with_several_seeds_come_first_seed_by_seed_then_the_others_then_controls():
    seeds = ["seeds=[2,1]", "rows.baseline.seeds=[1,2]", "rows.mer_r1.seeds=null", "rows.rd.seeds=[1]"]
    runs = load_table(changes=[*seeds, "controls.mer_r1_shuffled.seeds=[1]"]).runs(
        only=["mer_r1_shuffled", "rd", "mer_r1", "baseline"]
    )
    assert runs == [
        *(("baseline", 2), ("mer_r1", 2), ("baseline", 1), ("mer_r1", 1)),
        *(("rd", 1), ("mer_r1_shuffled", 1)),
    ]


def test_seeds_of_some_rows_alone_come_seed_by_seed_too():
    changes = ["seeds=[1]", "rows.baseline.seeds=[1,5,4]", "rows.mer_r1.seeds=[4,1,5]"]
    assert load_table(changes=changes).runs(only=["mer_r1", "baseline", "rd"]) == [
        (name, seed)
        for seed in (1, 4, 5)
        for name in ("baseline", "rd", "mer_r1")
        if (name, seed) not in {("rd", 4), ("rd", 5)}
    ]


def test_rows_and_seeds_are_chosen():
    table = load_table()
    assert table.runs(only=["baseline"], seeds=[2]) == [("baseline", 2)]
    assert table.runs(only=["rd"], seeds=[7]) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rows.baseline.experment=rd", "rows.baseline.experment: Extra inputs are not permitted"),
        ("row.baseline.experiment=rd", "row: Extra inputs are not permitted"),
        ("rows.baseline.experiment=mer_r2", "rows.baseline.experiment: there is no 'mer_r2' in conf/experiment"),
        ("rows.baseline.seeds=3", "rows.baseline.seeds: Input should be a valid list"),
        ("rows.baseline.seeds=[one]", "rows.baseline.seeds.0: Input should be a valid integer"),
        ("rows.baseline.seeds=[1,1]", "rows.baseline.seeds: [1, 1] must be different numbers"),
        ("rows.baseline.start=nowhere", "rows.baseline.start: there is no 'nowhere' in starts; use one of default"),
        ("rows.baseline.overrides=[run_dir=x]", "rows.baseline.overrides: run_dir=x is set by the ablation"),
        (
            "rows.baseline.overrides=[++preset.seed=5]",
            "overrides: ++preset.seed=5 is set by the ablation",
        ),
        ("controls.mer_r1_shuffled.overrides=[preset.model_path=x]", "overrides: preset.model_path=x is set by"),
        ("common.rl=[preset.seed=5]", "common.rl: preset.seed=5 is set by the ablation"),
        ("common.rl=[trainer.val_before_train=true]", "common.rl: trainer.val_before_train=true is set"),
        ("common.base=[stage=sft]", "common.base: stage=sft is set by the ablation"),
        ("bases.default.overrides=[preset.sft.train_files=x]", "bases.default.overrides: preset.sft.train_files=x is"),
        ("starts.perfect.overrides=[+preset.seed=1]", "starts.perfect.overrides: +preset.seed=1 is set"),
        ("rows.baseline.overrides=[--cfg]", "rows.baseline.overrides.0: String should match pattern"),
        ("starts.default.corpus=lost", "starts.default.corpus: there is no 'lost' in corpora"),
        ("bases.default.stage=sft", "bases.default.stage: Input should be 'base'"),
        ("controls.mer_r1.experiment=mer_r1", "controls.mer_r1: a row has this name"),
        ("controls.sft_x.experiment=mer_r1", "names that begin with sft"),
        ("evaluation.samples=0", "evaluation.samples: Input should be greater than or equal to 1"),
        ("evaluation.modes=[loud]", "evaluation.modes.0: Input should be 'slow', 'fast'"),
        ("corpora.default.generator=two", "corpora.default.generator: Input should be a valid integer"),
        ("preset=huge", "preset: there is no preset 'huge'; use one of"),
    ],
)
def test_a_fault_is_named(change, message):
    with pytest.raises(InputError) as error:
        load_table(changes=[change])
    assert message in str(error.value)
    assert str(DEFAULT_TABLE) in str(error.value)


def test_a_file_that_is_no_yaml_is_named(tmp_path):
    path = tmp_path / "table.yaml"
    path.write_text("rows: [")
    with pytest.raises(InputError, match=r"table\.yaml: cannot be read as YAML"):
        load_table(path)
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        load_table(tmp_path / "nowhere.yaml")


def test_sizes_can_be_changed_in_the_file_and_from_the_command_line(tmp_path):
    content = OmegaConf.load(DEFAULT_TABLE)
    content.common.rl = ["preset.steps=8"]
    OmegaConf.save(content, tmp_path / "table.yaml")
    assert load_table(tmp_path / "table.yaml").common.rl == ["preset.steps=8"]
    changed = load_table(changes=["common.rl=[preset.steps=4,preset.prompts_per_step=2]", "corpora.default.clips=96"])
    assert changed.common.rl == ["preset.steps=4", "preset.prompts_per_step=2"]
    assert changed.corpora["default"].clips == 96
