"""What the screen reads off a running stage, and the end of a log."""

import io
import json

import pytest
from metrics_lines import step, validation
from rich.console import Console

from recipe.mer_r1.pipeline import progress
from recipe.mer_r1.pipeline.progress import Status
from recipe.mer_r1.pipeline.screen import Screen, clock
from recipe.mer_r1.run import logs


def test_rl_tells_what_it_is_busy_with_before_the_first_step(tmp_path):
    log = tmp_path / "log"
    watch = progress.rl(tmp_path, 60)
    assert watch(log) == Status(0, 60, "checking the inputs", phase="checking the inputs")
    log.write_text("INFO Started a local Ray instance.\nreward loop manager initialized\n")
    assert watch(log).text == "starting vLLM"
    own = tmp_path / "log.txt"  # the command's own log has more, and an earlier start before its last
    own.write_text("$ python -m x\nready to fit\n$ python -m x\nINFO create worker group\n")
    assert watch(log).phase == "loading the actor and the reference"
    own.write_text("$ python -m x\nready to fit\n")
    assert (watch(log).phase, progress.rl(tmp_path, 60, True)(log).phase) == ("first step", "first validation")
    (tmp_path / "metrics.jsonl").write_text(validation(0, 0.4))
    assert watch(log).step_seconds is None


def test_rl_shows_step_and_the_mean_of_the_latest(tmp_path):
    lines = [validation(0, 0.1), *(step(number, f1=0.1 * number) for number in range(1, 8))]
    (tmp_path / "metrics.jsonl").write_text("".join(lines) + '{"step": 8, "da')
    status = progress.rl(tmp_path, 60)(tmp_path / "log")
    assert (status.done, status.total, status.step_seconds) == (7, 60, 4.0)
    assert "F1 0.50" in status.text  # of steps 3 to 7
    assert "4.0 s/step  4 min left" in status.text  # 53 steps of 4 s: 212 s
    assert (status.phase, progress.rl(tmp_path, 7)(tmp_path / "log").phase) == ("training", "writing the model")


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (212, "4 min"), (5400, "1.5 h")])
def test_a_time_is_in_words(seconds, words):
    assert progress.in_words(seconds) == words


def test_a_run_that_goes_on_starts_before_it_takes_steps(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(step(1, f1=0.5))
    own = tmp_path / "log.txt"
    own.write_text("$ python -m x\nready to fit\n$ python -m x\nINFO create worker group\n")
    watch = progress.rl(tmp_path, 60)
    phase = "loading the actor and the reference"
    assert watch(tmp_path / "log") == Status(1, 60, phase, phase=phase)
    own.write_text(own.read_text() + "all initialize finished, ready to fit\n")
    assert watch(tmp_path / "log").phase == "training"


def test_rl_is_at_the_step_before_while_a_step_has_its_validation_alone(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(step(1, f1=0.5) + validation(2, 0.9))
    status = progress.rl(tmp_path, 2)(tmp_path / "log")
    assert (status.done, status.step_seconds) == (1, 4.0)
    assert "F1 0.50" in status.text


def test_sft_takes_its_total_from_the_log(tmp_path):
    log = tmp_path / "log"
    watch = progress.sft(tmp_path)
    assert watch(log).total is None
    (tmp_path / "metrics.jsonl").write_text('{"step": 3, "data": {"train/loss": 2.5, "perf/step_seconds": 0.5}}\n')
    assert watch(log).total is None
    log.write_text("Total steps: 200, num_warmup_steps: 20\nstep 1/200  loss 6.1\n")
    assert watch(log) == Status(3, 200, "loss 2.500  0.5 s/step  2 min left", 0.5, "training")
    assert progress.sft(tmp_path, 50)(log).text == "loss 2.500  0.5 s/step  24 s left"


def test_sft_shows_the_scores_of_its_answers(tmp_path):
    metrics, log = tmp_path / "metrics.jsonl", tmp_path / "log"
    log.write_text("Total steps: 6, num_warmup_steps: 2\nstep 1/6  loss 6.1\n")
    watch = progress.sft(tmp_path, 6, score_every=4)
    lines = [{"step": step, "data": {"train/loss": 2.0, "perf/step_seconds": 0.5}} for step in range(1, 7)]
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines[:3]))
    assert watch(log).text == "loss 2.000  0.5 s/step  2 s left"
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines[:4]))
    assert watch(log) == Status(4, 6, "loss 2.000  answering validation clips", phase="answering validation clips")
    f1 = {"a/slow": 0.5, "b/slow": 0.7, "a/fast": 0.4}
    scored = {f"val-aux/{key}/f1/mean@1": value for key, value in f1.items()} | {"perf/score_seconds": 3.0}
    metrics.write_text("".join(json.dumps(line) + "\n" for line in [*lines[:4], {"step": 4, "data": scored}]))
    assert watch(log).text == "loss 2.000  0.5 s/step  1 s left  slow F1 0.60  fast F1 0.40"
    with metrics.open("a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines[4:]))
    assert watch(log).phase == "answering validation clips"  # after the last step, too


def test_clips_and_answers_are_counted(tmp_path):
    (tmp_path / "train" / "audio").mkdir(parents=True)
    (tmp_path / "train" / "audio" / "a.wav").touch()
    assert progress.clips(tmp_path, 4)(tmp_path / "log") == Status(1, 4, "1/4 clips")
    assert progress.answers(tmp_path, 6)(tmp_path / "log").text == "loading the model"
    (tmp_path / "slow.jsonl").write_text("{}\n{}\n")
    assert progress.answers(tmp_path, 6)(tmp_path / "log") == Status(2, 6, "2/6 answers")


def test_the_end_of_a_log_is_what_matters(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        "\n".join(
            [
                "$ python -m x",
                "\x1b[36m(Worker pid=12)\x1b[0m first",
                "2026-01-01 INFO nothing",
                "a/b.py:3: UserWarning: nothing",
                "  self.nothing()",
                " 'transfer_queue': {'enable': True,",
                "Loading:  10%|#   | 1/9\rLoading: 100%|####| 9/9",
                "",
                "same",
                "same",
                "ValueError: the reason",
                "",
            ]
        )
    )
    assert logs.relevant(log) == ["$ python -m x", "first", "same", "ValueError: the reason"]
    assert logs.relevant(log, 1) == ["ValueError: the reason"]
    assert logs.relevant(tmp_path / "none") == []


def test_a_long_log_is_cut(tmp_path):
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(5000)))
    assert logs.relevant(log) == [f"line {number}" for number in range(4980, 5000)]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (187, "3:07"), (3600, "60:00")])
def test_clock(seconds, text):
    assert clock(seconds) == text


def drawn(terminal, width=100):
    """What a screen shows of a stage that is done, one that runs and one that waits."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=width, color_system=None)
    with Screen({"a": "first stage", "b": "second stage", "c": "third stage"}, console) as screen:
        screen.begin("a", "python -m first", resumed=False)
        screen.end("a", "done", 61)
        screen.begin("b", "python -m second key=[x]", resumed=True)
        screen.update("b", Status(12, 60, "F1 0.50", 4.0), 30)
    return text.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_all_stages_on_a_line_each(width):
    text = drawn(True, width)
    assert "python -m second key=[x]" in text
    last = text.split("first stage")[-1]
    assert "1:01" in last
    assert "step 12/60  F1 0.50" in last
    assert "third stage" in last


def test_without_a_terminal_there_is_a_line_where_something_happens():
    assert drawn(False).splitlines() == [
        "a  $ python -m first",
        "a  done, 1:01",
        "b (continues)  $ python -m second key=[x]",
    ]


def test_answers_to_a_shard_are_counted_of_all_that_are_asked_for(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    watch = progress.answers_to(tmp_path, tmp_path / "test.parquet", per_clip=10)
    assert watch(tmp_path / "log").total is None
    pq.write_table(pa.table({"x": [1, 2, 3]}), tmp_path / "test.parquet")
    (tmp_path / "slow.jsonl").write_text("{}\n{}\n")
    assert watch(tmp_path / "log") == Status(2, 30, "2/30 answers")


def test_on_a_low_terminal_what_runs_and_failed_is_shown_first():
    names = [f"run{number}" for number in range(20)]
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=9)
    with Screen({name: name for name in names}, console) as screen:
        for name in names[:10]:
            screen.end(name, "done", 1.0)
        screen.end("run3", "failed", 1.0)
        screen.begin("run12", "command", False)
        assert screen._shown() == ["run3", "run6", "run7", "run8", "run9", "run12"]
