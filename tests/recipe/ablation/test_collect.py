"""A record by value: clips with samples, undefined clips, confidences, retained hits, curves; and its file."""

import json
from dataclasses import replace

import pytest

from recipe.mer_r1.ablation import collect, record
from recipe.mer_r1.ablation.plan import Run
from recipe.mer_r1.files.errors import InputError


def line(index, f1, sample=None, words=("happy",), wheels=5, **fields):
    found = {"index": index, "name": f"clip{index}", "labels": ["happy"], "words": list(words), "wheels": wheels}
    found |= {"f1": f1, "recall": f1, "precision": f1 / 2, "format": 1.0, "num_words": len(words), "categories": 1.0}
    found |= {"tokens": 10} | ({} if sample is None else {"sample": sample}) | fields
    return json.dumps(found) + "\n"


def run_in(folder, experiment="mer_r1"):
    (folder / "eval").mkdir(exist_ok=True)
    (folder / "rl").mkdir(exist_ok=True)
    return Run(
        "mer_r1-2", "mer_r1", 2, experiment, "default", ("a=1",), {"row": {"x": 1}}, (), (),
        ("slow", "fast", "slow_sampled"), folder / "sft", folder / "rl", folder / "eval",
    )  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """Two clips; the second has no labels on a wheel. Two samples each in slow_sampled, in any order."""
    run = run_in(tmp_path)
    (run.answers / "slow.jsonl").write_text(line(1, 0.0, wheels=0) + line(0, 0.5))
    (run.answers / "fast.jsonl").write_text(line(0, 1.0, words=["happy", "sad"]) + line(1, 0.0, wheels=0))
    samples = [line(0, 0.25, 1), line(1, 0.0, 0, wheels=0), line(0, 0.75, 0, failed="no"), line(1, 0.0, 1, wheels=0)]
    (run.answers / "slow_sampled.jsonl").write_text("".join(samples))
    own = [{"own": {"truth": -1.0, "margin": 2.0}}, {"own": {"truth": -2.0, "margin": None}}]
    (run.answers / "slow.confidence.jsonl").write_text("".join(json.dumps(one) + "\n" for one in own))
    steps = [
        {"step": 0, "data": {"val-aux/x": 1.0}},
        {"step": 1, "data": {"timing_s/step": 4.0, "reward/f1": 0.123456, "actor/lr": 1.0}},
        {"step": 2, "data": {"timing_s/step": 2.0, "reward/f1": 0.5, "proposition_1/tau": float("nan")}},
        {"step": 3, "data": {"timing_s/step": 3.0}},
    ]
    (run.trained / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in steps))
    start = {"git": "abc+dirty", "versions": {"torch": "2"}}
    (run.trained / "starts.jsonl").write_text(
        json.dumps({"git": "old", "versions": {}}) + "\n" + json.dumps(start) + "\n"
    )
    return run


def test_a_record_by_value(run):
    found = collect.finished(run, 12.34)
    assert (found.row, found.experiment, found.seed, found.state) == ("mer_r1", "mer_r1", 2, "finished")
    assert (found.git.commit, found.git.dirty, found.versions) == ("abc", True, {"torch": "2"})
    assert found.settings_sha256 == run.settings_sha256
    slow, sampled = found.metrics.forms["slow"], found.metrics.forms["slow_sampled"]
    assert (slow.n, slow.samples, slow.f1, slow.precision, slow.words) == (1, 1, 0.5, 0.25, 1)
    assert (sampled.n, sampled.samples, sampled.f1, sampled.n_failed) == (1, 2, 0.5, 1)
    assert found.metrics.confidence["slow"].model_dump() == {"truth": -1.5, "margin": 2.0, "n": 2}
    assert found.metrics.retained_hit == 1.0
    assert found.clips.names == ["clip0", "clip1"]
    scores = {"f1": [0.5, None], "recall": [0.5, None], "precision": [0.25, None], "f1_well_formed": [0.5, None]}
    assert found.clips.forms["slow_sampled"] == scores
    assert (found.training.steps, found.training.seconds_per_step, found.training.seconds) == (3, 3.0, 12.3)
    assert found.training.curves == {"reward/f1": [0.1235, 0.5, None]}


def test_the_weights_of_the_sft_model_are_told_apart(run):
    assert collect.finished(run, 1).start_sha256 is None
    run.sft_model.mkdir()
    (run.sft_model / "model.safetensors").write_bytes(b"one")
    first = collect.finished(run, 1).start_sha256
    assert collect.finished(run, 2).start_sha256 == first
    (run.sft_model / "model.safetensors").write_bytes(b"two")
    assert collect.finished(run, 1).start_sha256 not in (first, None)


def test_the_error_of_f1_is_over_clips(tmp_path):
    run = run_in(tmp_path)
    (run.answers / "fast.jsonl").write_text("".join(line(index, f1) for index, f1 in enumerate((0.0, 1.0, 1.0, 0.0))))
    (run.trained / "metrics.jsonl").write_text("")
    with pytest.raises(InputError, match=r"slow\.jsonl: missing"):
        collect.finished(run, 1)
    found = collect.finished(replace(run, modes=("fast",)), 1).metrics
    assert found.forms["fast"].f1_stderr == pytest.approx(0.288675)  # √(1/3) / √4
    assert found.retained_hit is None
    assert found.confidence == {}


def test_answers_of_other_clips_or_with_a_sample_missing_are_refused(run):
    (run.answers / "fast.jsonl").write_text(line(0, 1.0))
    with pytest.raises(InputError, match=r"fast\.jsonl: has other clips than slow\.jsonl"):
        collect.finished(run, 1)
    (run.answers / "fast.jsonl").write_text(line(0, 1.0, 0) + line(0, 1.0, 1) + line(1, 1.0, 0))
    with pytest.raises(InputError, match=r"\[1, 2\] for each clip"):
        collect.finished(run, 1)
    (run.answers / "fast.jsonl").write_text(line(0, 1.0) + '{"index": 1')
    with pytest.raises(InputError, match=r"fast\.jsonl, line 2: cut off"):
        collect.finished(run, 1)


def test_a_record_is_read_as_it_was_written_and_small(run, tmp_path):
    found = collect.finished(run, 1)
    record.write(tmp_path / "results", run.name, found)
    path = tmp_path / "results" / "mer_r1-2.json"
    assert record.read(path) == found
    assert '"f1": [0.5,null]' in path.read_text()
    assert record.read_all(tmp_path / "results") == [found]
    assert record.read(tmp_path / "none.json") is None


def test_a_file_that_is_no_record_is_named(tmp_path):
    path = tmp_path / "x-1.json"
    path.write_text('{"version": 9}')
    with pytest.raises(InputError, match=r"x-1\.json: version: Input should be 1"):
        record.read(path)


def test_a_failed_run_keeps_the_reason_and_the_log(run):
    found = collect.failed(run, "rl: killed by signal 9.", ["line one", "line two"])
    assert (found.state, found.reason, found.log) == ("failed", "rl: killed by signal 9.", ["line one", "line two"])
    assert found.metrics is None
