"""The form of a saved model by its lineage."""

import json

import pytest

from recipe.mer_r1.export import card
from recipe.mer_r1.run.form import Trained, form_of

TWICE = "answer_think_answer"


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "run" / "model"
    folder.mkdir(parents=True)
    return folder


def lineage(form):
    stage = {"run": "rl", "starts": [], "config": {"data": {"form": form}}, "data": [], "scores": None}
    older = stage | {"config": {"data": {"form": "think_answer"}}}
    return {
        "step": 1,
        "stages": [stage | {"started_from": None}, older | {"started_from": None}],
        "exported_with": {"versions": {}, "git": None},
    }


def test_a_runs_model_has_the_form_of_its_configuration(model):
    config = model.parent / "config.yaml"
    config.write_text(f"data: {{form: {TWICE}}}\n")
    assert form_of(str(model)) == Trained(TWICE, config)


def test_an_exported_model_has_the_form_of_its_last_stage(model):
    (model.parent / "config.yaml").write_text("data: {form: think_answer}\n")
    file = model / "lineage.json"
    file.write_text(json.dumps(lineage(TWICE)))
    assert form_of(str(model)) == Trained(TWICE, file)


@pytest.mark.parametrize("text", ["", "data: {}\n", "data: {form: sonnet}\n", "other: 1\n"])
def test_a_configuration_that_names_no_form_says_nothing(text, model):
    (model.parent / "config.yaml").write_text(text)
    assert form_of(str(model)) is None


def test_a_model_of_another_origin_says_nothing(model):
    assert form_of(str(model)) is None
    assert form_of("Qwen/Qwen2.5-Omni-3B") is None
    file = model / "lineage.json"
    file.write_text(json.dumps({"stages": [{"config": None}]}))
    assert form_of(str(model)) is None


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ("think_answer", "`<think>reason</think><answer>words</answer>`"),
        (TWICE, "`<answer>words</answer><think>reason</think><answer>words</answer>`"),
        (None, "`<think>reason</think><answer>words</answer>`"),
    ],
)
def test_the_card_shows_the_form(form, shown):
    assert f"as {shown}." in card.text(lineage(form), full=False, dtype="float32")
