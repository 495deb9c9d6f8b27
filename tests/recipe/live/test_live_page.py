"""The live page: one file, true about the run's state, and unable to break the run that writes it."""

import json
import os
import re
import sys
import threading
import time
from html.parser import HTMLParser

import pytest
from clip_shards import one_clip_shard
from live_cases import step_metrics, validation_metrics, write_metrics
from omegaconf import OmegaConf

from recipe.mer_r1.live import __main__ as command
from recipe.mer_r1.live import answers, settings, status, writer
from recipe.mer_r1.live.page import page
from recipe.mer_r1.run import state


class Tags(HTMLParser):
    """Collects tags with their attributes, the text, and fails where tags do not match."""

    VOID = ("img", "meta", "line", "rect", "polyline", "circle", "br")

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID and not self.get_starttag_text().endswith("/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def of(folder, every=10.0):
    return Tags(page([(folder.name, status.watch(folder))], every))


def refresh(tags):
    return [meta["content"] for meta in tags.all("meta") if meta.get("http-equiv") == "refresh"]


def full(count=12, **changes):
    metrics = {0: validation_metrics()} | {step: step_metrics(step, **changes) for step in range(1, count + 1)}
    metrics[count] |= validation_metrics(slow=0.9, fast=0.65)
    return metrics


def test_a_running_job_is_one_file_that_reloads_itself(tmp_path):
    folder = write_metrics(tmp_path / "mine", full())
    with state.recorded(folder, steps=40):
        tags = of(folder, every=7.5)
    assert refresh(tags) == ["8"]
    assert "running" in tags.text
    assert "step 12 of 40" in tags.text
    assert "left" in tags.text
    assert not tags.all("script") + tags.all("link") + tags.all("img")
    assert len(tags.all("svg")) == 8
    assert "longest answer 6answers 1.5their labels 1.25" in tags.text
    assert "recall and precision 0: 5%; groups in which the two cancel for every answer: 15%" in tags.text
    assert "Slowest phase: gen, 6 of 10 s per step (60%)" in tags.text
    assert "recall60%0.60025%50%" in tags.text
    assert "Validation takes additional time: 40 s after step 12" in tags.text
    assert "mer_microfast0.6500.6500.6500.650" in tags.text


def test_a_run_that_does_not_learn_says_so(tmp_path):
    lost = {step: step_metrics(step) | {"reward/format": 0.0} for step in range(13, 16)}
    tags = of(write_metrics(tmp_path / "lost", full() | lost))
    assert "Warning (step 15): no answer of the last 3 steps has the required form" in tags.text
    tags = of(write_metrics(tmp_path / "again", full() | lost | {16: step_metrics(16)}))
    assert "Warned before (step 15), not now: no answer" in tags.text
    assert "Warn" not in of(write_metrics(tmp_path / "learns", full())).text


def test_a_run_without_confidence_or_terms_says_so(tmp_path):
    tags = of(write_metrics(tmp_path / "run", full(confidence=False, terms={})))
    assert "mer_r1.confidence.always=true" in tags.text
    assert "verl's own estimator" in tags.text
    assert len(tags.all("svg")) == 6


def test_missing_responses_are_named_by_step(tmp_path):
    metrics = full() | {5: step_metrics(5, missing=3)}
    assert "3 at step 5; 1 steps in total" in of(write_metrics(tmp_path / "run", metrics)).text


def test_before_the_first_step_and_with_half_a_line(tmp_path):
    folder = write_metrics(tmp_path / "run", {}, tail='{"step":1,"data":{"reward/f1":0.')
    with state.recorded(folder, steps=4):
        assert "No step yet" in of(folder).text
    write_metrics(folder, {1: step_metrics(1)}, tail='{"step":2,"data":{"reward/f1":0.')
    with state.recorded(folder, steps=4):
        assert "step 1 of 4" in of(folder).text


def test_an_sft_run_shows_the_scores_of_its_answers(tmp_path):
    scored = {"val/loss": 1.5, "val/failed": 2.0, "perf/score_seconds": 12.5}
    metrics = {1: {"train/loss": 2.0}, 2: {"train/loss": 1.0, **validation_metrics(slow=0.625, fast=0.375), **scored}}
    text = of(write_metrics(tmp_path / "sft", metrics)).text
    assert "Validation after step 2" in text
    assert "Answering and scoring took 12.5 s after step 2." in text
    assert "Failed clips, which count as wrong: 2." in text
    assert text.count("0.625") >= 4
    assert text.count("0.375") >= 4
    plain = of(write_metrics(tmp_path / "plain", {1: {"train/loss": 2.0}})).text
    assert "Validation after" not in plain


def test_an_sft_run_shows_its_loss(tmp_path):
    tags = of(write_metrics(tmp_path / "sft", {1: {"train/loss": 2.0}, 2: {"train/loss": 1.0}}))
    assert "SFT loss" in tags.text
    assert len(tags.all("svg")) == 1
    data = {"train/loss": 2.0, "train/lr": 1e-3, "train/grad_norm": 0.5, "perf/step_seconds": 0.25}
    tags = of(write_metrics(tmp_path / "more", {1: data, 2: data}))
    assert len(tags.all("svg")) == 4
    assert "Learning rate" in tags.text


def test_the_page_says_what_the_run_was_started_with(tmp_path):
    folder = write_metrics(tmp_path / "run", full())
    terms = [{"signals": {"recall": 1.0}}, {"signals": {"calib_pos": 1.0, "calib_neg": 0.5}, "weight": 0.1}]
    preset = {"name": "tiny", "seed": 3, "model_path": "models/<sft>", "train_files": ["a.parquet", "b.parquet"]}
    preset |= {"lr": 1e-4, "kl_coef": 0.001, "prompts_per_step": 24, "responses_per_prompt": 4}
    config = {"preset": preset, "experiment": {"name": "mer_r1"}, "mer_r1": {"terms": terms}}
    optim = {"actor_rollout_ref": {"actor": {"optim": {"lr": 2e-4}}}}  # the user's, over the preset's
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config | optim)))
    (folder / "starts.jsonl").write_text(
        '{"stage": "ppo", "git": "abc"}\n{"stage": "ppo", "git": "0123456789abcdef0123+dirty"}\n'
    )
    assert settings.facts(folder) == {
        "experiment": "mer_r1: recall + 0.1 (calib_pos + 0.5 calib_neg)",
        "model": "models/<sft>",
        "data": "a.parquet, b.parquet",
        "learning rate": "0.0002",
        "KL coefficient": "0.001",
        "a step": "24 prompts × 4 responses",
        "preset": "tiny, seed 3",
        "code": "0123456789ab+dirty (start 2 of this run)",
    }
    assert "models/<sft>" in of(folder).text
    assert settings.facts(tmp_path) == {}
    sft = {"model_path": "base", "train_files": "sft.parquet", "lr": 1.5e-3, "warmup_steps": 20, "batch_size": 16}
    (folder / "config.yaml").write_text(OmegaConf.to_yaml({"preset": preset | {"sft": sft | {"fast_fraction": 0.3}}}))
    (folder / "starts.jsonl").write_text('{"stage": "sft", "git": null}\n')
    found = settings.facts(folder)
    assert (found["stage"], found["model"], found["fast form"]) == ("SFT", "base", "30 % of the clips")
    assert found["learning rate"] == "0.0015, 20 steps of warm-up"


def test_answers_are_shown_with_clip_mode_and_frame(tmp_path):
    shard, name = one_clip_shard(tmp_path)
    folder = write_metrics(tmp_path / "run", full())
    (folder / "config.yaml").write_text(OmegaConf.to_yaml({"preset": {"val_files": str(shard), "media_root": None}}))
    (folder / "validation").mkdir()
    prompt = "user\nSubtitle: Oh no.\nWhat does the person feel?\nassistant\n"
    slow = {"input": prompt, "output": "<think>so</think><answer>sad</answer>", "gts": ["sad"], "f1": 1.0, "clip": name}
    fast = slow | {"input": f"{prompt}<think></think><answer>", "output": "happy</answer>", "f1": 0.0}
    other = slow | {"clip": "gone", "output": "<answer>calm</answer>"}
    lines = "".join(json.dumps(row) + "\n" for row in (fast, other, slow))
    (folder / "validation" / "12.jsonl").write_text(lines)
    step, (first, second) = answers.newest(folder, 4)
    assert (step, first.name, first.subtitle, first.labels) == (12, name, "Oh no.", "sad")
    assert first.replies == {
        "fast": answers.Reply("<think></think><answer>happy</answer>", 0.0),
        "slow": answers.Reply("<think>so</think><answer>sad</answer>", 1.0),
    }
    assert first.frame.startswith("data:image/jpeg;base64,")
    assert (second.frame, second.missing) == ("", f"{shard}: no clip named 'gone'")
    old = {key: value for key, value in slow.items() if key != "clip"}  # as version 0.1.0 wrote it
    (folder / "validation" / "13.jsonl").write_text(json.dumps(old) + "\n")
    (only,) = answers.newest(folder, 4)[1]
    assert (only.name, bool(only.frame)) == (name, True)
    tags = of(folder)
    assert len(tags.all("img")) == 1
    assert "Subtitle: Oh no." in tags.text
    assert "slow, F1 1.00" in tags.text


def test_answers_of_the_newest_validation_are_text_whatever_the_model_wrote(tmp_path):
    folder = write_metrics(tmp_path / "run", full())
    (folder / "validation").mkdir()
    row = {"gts": ["happy"], "f1": 0.5}
    old = row | {"input": "user\nassistant\n", "output": "of old"}
    new = row | {"input": "user\nassistant\n<think></think>", "output": "<script>alert(1)</script>\u202e"}
    (folder / "validation" / "4.jsonl").write_text(json.dumps(old) + "\n")
    (folder / "validation" / "12.jsonl").write_text(json.dumps(new) + "\n" + json.dumps(new)[:-9])
    tags = of(folder)
    assert not tags.all("script")
    assert tags.text.count("<think></think><script>alert(1)</script>\ufffd") == 1
    assert "validation after step 12" in tags.text
    assert "of old" not in tags.text


@pytest.mark.parametrize(
    ("error", "ended", "said"),
    [
        (None, "finished", "step 12 of 12"),
        (RuntimeError("a trace\nValueError: <no clip>\n"), "failed", "ValueError: <no clip>"),
        (KeyboardInterrupt(), "interrupted", "again to continue from the last checkpoint"),
    ],
)
def test_the_end_of_a_run_stands_on_its_page_which_reloads_no_more(tmp_path, error, ended, said):
    folder = write_metrics(tmp_path / "run", full())

    def go():
        with writer.kept_live(folder, every=60), state.recorded(folder, steps=12):
            if error:
                raise error

    if error:
        with pytest.raises(type(error)):
            go()
    else:
        go()
    tags = Tags((folder / "live.html").read_text(encoding="utf-8"))
    assert refresh(tags) == []
    assert ended in tags.text
    assert said in tags.text


def test_the_page_follows_the_run_while_it_goes_on(tmp_path):
    folder = write_metrics(tmp_path / "run", {1: step_metrics(1)})
    with writer.kept_live(folder, every=0.02) as out, state.recorded(folder, steps=3):
        write_metrics(folder, {1: step_metrics(1), 2: step_metrics(2)})
        deadline = time.time() + 5
        while time.time() < deadline and not (out.exists() and "step 2 of 3" in out.read_text()):
            time.sleep(0.01)
        assert "step 2 of 3" in out.read_text()
    assert [file.name for file in folder.iterdir() if file.name.endswith(".part")] == []


def test_a_fault_of_the_page_does_not_reach_the_run(tmp_path, monkeypatch):
    faults = []
    monkeypatch.setattr(threading, "excepthook", faults.append)
    folder = write_metrics(tmp_path / "run", {1: step_metrics(1)})
    (folder / "live.html").mkdir()  # cannot be replaced
    with writer.kept_live(folder, every=60), state.recorded(folder, steps=1):
        pass
    assert state.read(folder).state == "finished"
    assert len(faults) == 1


def test_a_process_that_is_gone_without_a_word_has_died(tmp_path):
    folder = write_metrics(tmp_path / "run", full())
    with state.recorded(folder, steps=40):
        record = json.loads((folder / "run.json").read_text())
    for change, seen in (
        ({"state": "running"}, "running"),
        ({"state": "running", "created": record["created"] - 600}, "died"),  # another process has its pid
        ({"state": "running", "created": record["created"] - 5}, "running"),  # the machine's clock was set
        ({"state": "running", "pid": 2**22 + 1}, "died"),
        ({"state": "running", "pid": 2**22 + 1, "host": "elsewhere"}, "running"),
    ):
        (folder / "run.json").write_text(json.dumps(record | change))
        assert status.watch(folder).state == seen
    (folder / "run.json").write_text(json.dumps(record | {"state": "running", "pid": 2**22 + 1}))
    assert "the last checkpoint" in of(folder).text


def test_a_long_silence_is_said_but_not_that_of_a_slow_step(tmp_path):
    folder = write_metrics(tmp_path / "run", full())
    for age, silent in ((130, False), (400, True)):
        os.utime(folder / "metrics.jsonl", (time.time() - age,) * 2)
        with state.recorded(folder, steps=40):
            assert ("much longer than any step before" in of(folder).text) == silent


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["live", *map(str, arguments)])
    return command.main()


def test_the_command_puts_several_runs_on_one_page_and_ends_with_the_last(tmp_path, monkeypatch, capsys):
    one, two = (write_metrics(tmp_path / name / "rl", full()) for name in ("one", "two"))
    out = tmp_path / "both.html"
    assert call(monkeypatch, f"first={one}", two, "--out", out) == 0
    assert capsys.readouterr().out == f"{out}\n"
    tags = Tags(out.read_text())
    assert len(tags.all("svg")) == 14 + 2 * 8  # over each other, then each run alone
    assert "Recall: slow, sampled (training)first 0.6rl 0.6" in tags.text
    colours = re.findall(r'stroke="([^"]+)"', out.read_text().split("Recall: slow, sampled", 1)[1].split("</svg>")[0])
    assert colours == ["var(--p0)", "var(--p0)", "var(--p1)", "var(--p1)"]  # steps and their mean, run by run
    assert "Recall, slow0.9000.900" in tags.text.replace(" ", "").replace("Recall,slow", "Recall, slow")
    assert "gen66" in tags.text  # seconds of a phase, run by run
    assert "old_log_prob< 0.001< 0.001" in tags.text
    assert call(monkeypatch, two) == 0
    assert (two / "live.html").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "has no run.json and no metrics.jsonl"),
        (["a/rl", "b/rl"], "two runs have the name rl"),
        (["x=a/rl", "b/rl"], "several runs on one page need --out"),
        (["a/rl", "--out", "no/folder/p.html"], "no such folder"),
        (["a/rl", "--every", "0"], "more than 0"),
        (["broken"], "broken/run.json is not the record of a run"),
    ],
)
def test_a_wrong_call_is_answered_with_the_way_out(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    for name in ("a/rl", "b/rl", "broken"):
        write_metrics(tmp_path / name, full(2))
    (tmp_path / "broken" / "run.json").write_text('{"state": "running"')
    with pytest.raises(SystemExit) as stop:
        call(monkeypatch, *arguments)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
