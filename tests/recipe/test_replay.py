"""A saved batch under every experiment: the stored advantages come again, and bad files are named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from recipe.mer_r1 import replay
from recipe.mer_r1.explain.rollout_batch import BatchError, read_batches
from recipe.mer_r1.method import experiments
from recipe.mer_r1.method.advantage import combine, whiten
from recipe.mer_r1.run import launch

ROOT = Path(__file__).parents[2]
TOKENS = [5, 9, 7, 4, 6, 6]


def estimator(name):
    return experiments.estimator_of(launch.compose("replay", [f"experiment={name}"]))


def responses(without=()):
    """Two prompts, three responses each, the prompts interleaved; one perfectly precise answer."""
    columns = {
        "recall": [0.5, 1.0, 1.0, 0.0, 0.5, 0.5],
        "precision": [0.5, 1.0, 0.25, 0.0, 1.0, 0.5],
        "f1": [0.5, 1.0, 0.4, 0.0, 2 / 3, 0.5],
        "format": [1.0, 1.0, 0.0, 1.0, 1.0, 1.0],
        "f1_first": [0.0, 0.5, 0.0, 0.5, 0.0, 1.0],
        "calib_pos": [0.25, 0.5, -1.0, None, 0.125, 0.0],
        "calib_neg": [-0.5, None, 0.5, 1.0, None, 0.25],
    }
    return [
        {
            "input": "user\n…",
            "output": f"<think>x</think><answer>happy, answer{index}</answer>",
            "gts": ["happy"],
            "score": 1.0,
            "step": 1,
            "uid": f"clip_{'ab'[index % 2]}_{index // 2}_0",
            "signals": {name: values[index] for name, values in columns.items() if name not in without},
        }
        for index in range(6)
    ]


def trained(rows, name):
    """The rows as a run of the experiment stores them: float32, undefined as null."""
    signals = {
        key: torch.tensor([float("nan") if row["signals"][key] is None else row["signals"][key] for row in rows])
        for key in rows[0]["signals"]
    }
    result = combine(signals, [row["uid"][:6] for row in rows], estimator(name).terms)
    if name == "gdpo":
        result["advantage"] = whiten(result["advantage"], torch.tensor([row["tokens"] for row in rows]))
    advantage = result.pop("advantage").tolist()
    for index, row in enumerate(rows):
        row |= {"terms": {key: values[index].item() for key, values in result.items()}, "advantage": advantage[index]}
    return rows


@pytest.fixture
def write(tmp_path):
    """A function that writes rows (objects or text) as a batch file."""

    def file(rows, name="1.jsonl"):
        path = tmp_path / name
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return file


def call(*arguments):
    return CliRunner().invoke(replay.app, list(map(str, arguments)))


def output(*arguments):
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def complaint(*arguments):
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("replay: ")
    return result.stderr


@pytest.mark.parametrize("name", ["mer_r1", "b2", "baseline"])
def test_the_estimator_of_the_run_is_found_and_its_advantages_come_again(name, write):
    found = json.loads(output(write(trained(responses(), name)), "--all", "--json"))
    of_the_run = found["experiments"][name]
    assert of_the_run["max_abs_difference"] < 1e-6
    others = {key for key, entry in found["experiments"].items() if entry["trained"]} - {name}
    assert of_the_run["trained"]
    assert others == ({"affectgpt_r1"} if name == "baseline" else set())


def test_the_agreement_is_with_the_experiment_that_trained(write):
    path = write(trained(responses(), "mer_r1"))
    found = json.loads(output(path, "--all", "--json"))["agreement"]
    assert found["reference"] == "mer_r1"
    assert found["experiments"]["mer_r1"]["correlation"] == pytest.approx(1)
    assert 0 < found["experiments"]["baseline"]["correlation"] < 0.99
    assert list(found["experiments"]["mer_r1"]["terms"]) == ["recall", "precision", "calib_pos", "calib_neg", "format"]
    text = output(path, "experiment=baseline", "experiment=rd", "--agreement")
    assert "Advantages of the same 6 responses, beside those of baseline" in text
    assert "answer" not in text


@pytest.mark.slow
def test_what_a_batch_lacks_is_said_and_the_rest_is_computed(write):
    path = write(trained(responses(without=["f1_first"]), "mer_r1"))
    found = json.loads(output(path, "--all", "--json"))
    assert set(found["not_computed"]) == {"a1", "gdpo", "videoauto_r1"}
    assert "needs the signals ['calib_pos_word']" in found["not_computed"]["a1"]
    assert "f1_first" in found["not_computed"]["videoauto_r1"]
    assert "`tokens`" in found["not_computed"]["gdpo"]
    assert str(path) in found["not_computed"]["a1"]
    assert set(found["experiments"]) == set(experiments.names()) - set(found["not_computed"])
    assert "a1 cannot be computed" in output(path, "--all")


def test_whitening_weighs_by_tokens(write):
    rows = [row | {"tokens": tokens} for row, tokens in zip(responses(), TOKENS, strict=True)]
    found = json.loads(output(write(trained(rows, "gdpo")), "--all", "--json"))["experiments"]["gdpo"]
    assert found["trained"]
    assert found["whiten"]
    advantages = torch.tensor([row["advantage"] for row in rows]).repeat_interleave(torch.tensor(TOKENS))
    assert advantages.std().item() == pytest.approx(1, abs=1e-3)


def test_json_has_every_response_with_its_terms(write):
    path = write(trained(responses(), "mer_r1"))
    found = json.loads(output(path, "experiment=mer_r1", "experiment=b2", "--json"))
    assert list(found["experiments"]) == ["mer_r1", "b2"]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, (row, response) in enumerate(zip(rows, found["responses"], strict=True), 1):
        assert (response["file"], response["line"], response["uid"]) == (str(path), number, row["uid"])
        assert response["signals"] == row["signals"]
        assert response["stored"] == {"terms": row["terms"], "advantage": row["advantage"]}
        for entry in response["experiments"].values():
            assert entry["advantage"] == pytest.approx(sum(entry["terms"].values()), abs=1e-9)
        assert response["experiments"]["mer_r1"]["terms"] == pytest.approx(row["terms"], abs=1e-6)


def test_overrides_work_as_in_a_run(write):
    path = write(trained(responses(), "mer_r1"))
    plain, more = (
        json.loads(output(path, "experiment=mer_r1", *extra, "--json"))
        for extra in ([], ["experiment.lambda_cali=0.3"])
    )
    assert more["experiments"]["mer_r1"]["terms"][2] == {
        "name": "calib_pos",
        "signals": {"calib_pos": 1.0},
        "weight": 0.3,
    }
    assert not more["experiments"]["mer_r1"]["trained"]
    for before, after in zip(plain["responses"], more["responses"], strict=True):
        before, after = (entry["experiments"]["mer_r1"]["terms"] for entry in (before, after))
        assert after["calib_pos"] == pytest.approx(3 * before["calib_pos"])
        assert after["recall"] == before["recall"]


def test_the_tables_show_each_prompt_and_say_which_experiment_trained(write):
    text = output(write(trained(responses(), "mer_r1")), "experiment=mer_r1", "experiment=rd")
    for prompt in ("clip_a", "clip_b"):
        assert f"prompt {prompt}, labels: happy" in text
    for part in ("happy, answer5", "signal calib_neg", "undefined", "mer_r1 (trained)", "stored advantage"):
        assert part in text
    assert "rd (trained)" not in text
    assert "No experiment reproduces" in output(write(trained(responses(), "mer_r1")), "experiment=rd")


def test_a_batch_without_stored_advantages_is_replayed_too(write):
    """verl's own estimator made them, or the trainer kept none."""
    path = write(responses())
    entry = json.loads(output(path, "experiment=rd", "--json"))["experiments"]["rd"]
    assert entry["max_abs_difference"] is None
    assert not entry["trained"]
    assert "no stored advantage" in output(path, "experiment=rd")


def test_a_folder_is_read_in_the_order_of_its_steps_each_file_a_batch_of_its_own(write, tmp_path):
    for step in (10, 9, 1):
        rows = trained(responses(), "mer_r1")
        write([row | {"step": step} for row in rows], f"{step}.jsonl")
    assert [batch.path.name for batch in read_batches(tmp_path)] == ["1.jsonl", "9.jsonl", "10.jsonl"]
    found = json.loads(output(tmp_path, "experiment=mer_r1", "--json"))
    assert len(found["responses"]) == 18
    assert found["experiments"]["mer_r1"]["trained"]


def test_odd_text_in_a_response_is_no_line_end(write):
    rows = responses()
    rows[0]["output"] = "so\u2028so\u0085"
    assert len(read_batches(write(rows))[0].rows) == 6


# --- what is wrong is named ---


def changed(line=2, **values):
    """The six rows, one changed; None removes a column."""
    rows = responses()
    for name, value in values.items():
        rows[line - 1].pop(name) if value is None else rows[line - 1].update({name: value})
    return rows


SIGNALS = responses()[1]["signals"]


@pytest.mark.parametrize(
    ("rows", "line", "named"),
    [
        (['{"uid": "a_0_0", "sig'], 1, "not JSON"),
        ([""], 1, "not JSON"),
        (["[1]"], 1, "a JSON object is needed, not a list"),
        (changed(uid=None), 2, "uid is None"),
        (changed(uid="clip"), 2, "PROMPT_RESPONSE_TURN"),
        (changed(uid="clip_a_b_c"), 2, "PROMPT_RESPONSE_TURN"),
        (changed(uid="clip_a_0_0"), 2, "is already in line 1"),
        (changed(line=1, signals=None), 1, "column `signals` is missing"),
        (changed(signals=[1.0]), 2, r"signals is \[1.0\]"),
        (changed(signals={**SIGNALS, "recall": "1"}), 2, "signals.recall is '1'"),
        (changed(signals={**SIGNALS, "recall": float("nan")}), 2, "or null"),
        (changed(signals={**SIGNALS, "recall": float("inf")}), 2, "signals.recall is inf"),
        (changed(signals={"recall": 1.0}), 2, "its signals differ from those of line 1: calib_neg"),
        (changed(line=3, advantage=1.0), 3, "its columns differ from those of line 1: advantage"),
        (changed(line=1, advantage=float("nan")), 1, "advantage is nan"),
        (changed(line=1, tokens=-1), 1, "tokens is -1"),
    ],
)
def test_a_wrong_line_is_named(rows, line, named, write):
    path = write(rows)
    with pytest.raises(BatchError, match=named) as caught:
        read_batches(path)
    assert str(caught.value).startswith(f"{path} line {line}: ")
    assert f"{path} line {line}" in complaint(path, "--all")


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "1.jsonl").write_bytes('{"output": "高'.encode()[:-1])
    assert f"{tmp_path}/1.jsonl: not a UTF-8 text file" in complaint(tmp_path / "1.jsonl", "--all")


def test_a_file_or_folder_that_is_not_there(tmp_path):
    assert f"{tmp_path}/1.jsonl: no such file" in complaint(tmp_path / "1.jsonl", "--all")
    assert f"{tmp_path}: no *.jsonl" in complaint(tmp_path, "--all")
    assert "trainer.rollout_data_dir=DIR" in complaint(tmp_path, "--all")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "give an experiment"),
        (["--all", "experiment=rd"], "not both"),
        (["experiment=mer"], "Could not find 'experiment/mer'"),
        (["experiment=rd", "experiment.lambda=1"], "Could not override 'experiment.lambda'"),
        (["experiment=rd", "experiment.terms=[{signals: {recal: 1.0}}]"], "did you mean recall"),
        (["experiment=rd", "algorithm.adv_estimator=grpo"], "one of verl's own estimators"),
    ],
)
def test_a_wrong_command_is_answered(arguments, named, write):
    assert named in complaint(write(responses()), *arguments)


def test_nothing_to_show_is_an_error(write):
    path = write(responses(without=["f1_first"]))
    result = call(path, "experiment=videoauto_r1")
    assert result.exit_code == 2
    assert "nothing could be computed" in result.stderr


@pytest.mark.slow
def test_it_runs_as_a_module_and_loads_neither_verl_nor_a_model(write):
    path = write(trained(responses(), "mer_r1"))
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "recipe.mer_r1.replay", path, "experiment=mer_r1"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "mer_r1 (trained)" in done.stdout
    timings = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.split("|")[-1].strip().split(".")[0] for line in timings}
    assert "torch" in imported
    assert not imported & {"verl", "transformers", "ray", "vllm"}
