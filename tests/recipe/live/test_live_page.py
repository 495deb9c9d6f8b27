"""The live page: one file, true about the run's state, and unable to break the run that writes it."""

import json
import os
import sys
import threading
import time
from html.parser import HTMLParser

import pytest
from live_cases import step_metrics, validation_metrics, write_metrics

from recipe.mer_r1.live import __main__ as command
from recipe.mer_r1.live import status, writer
from recipe.mer_r1.live.page import page
from recipe.mer_r1.run import state


class Tags(HTMLParser):
    """Collects tags with their attributes, the text, and fails where tags do not match."""

    VOID = ("meta", "line", "rect", "polyline", "circle", "br")

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


def test_an_sft_run_shows_its_loss(tmp_path):
    tags = of(write_metrics(tmp_path / "sft", {1: {"train/loss": 2.0}, 2: {"train/loss": 1.0}}))
    assert "SFT loss" in tags.text
    assert len(tags.all("svg")) == 1


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
    assert len(Tags(out.read_text()).all("svg")) == 16
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
