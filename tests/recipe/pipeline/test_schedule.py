"""Which stages run at the same time, and what a failure does to the others."""

import io
import threading
import time
from dataclasses import replace

import pytest
from rich.console import Console

from recipe.mer_r1.files.alone import take
from recipe.mer_r1.pipeline import stamps
from recipe.mer_r1.pipeline.schedule import Schedule
from recipe.mer_r1.pipeline.screen import Screen
from recipe.mer_r1.pipeline.stage import Stage
from recipe.mer_r1.pipeline.stage_run import Places
from recipe.mer_r1.pipeline.stamps import Stamp

pytestmark = pytest.mark.slow

# Appends its name to a list, waits for WAIT seconds, and appends it again.
CODE = """
import pathlib, sys, time
result, order, name = sys.argv[1:]
def note(what):
    with open(order, "a") as file:
        file.write(f"{name} {what}\\n")
note("begins")
time.sleep(WAIT)
pathlib.Path(result).mkdir()
note("ends")
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("recipe.mer_r1.pipeline.process.POLL_SECONDS", 0.02)


class Noted(Schedule):
    """Goes on after a failure, and keeps what it was told."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.told = []

    def on_end(self, stage, screen, kept):
        self.told.append((stage.name, "kept" if kept else "done"))

    def on_failure(self, stage, error, screen, seconds):
        self.told.append((stage.name, str(error)))


def stage(out, name, after=(), light=False, wait=0.0, code=CODE):
    command = ("-c", code.replace("WAIT", str(wait)), str(out / name), str(out / "order"), name)
    return Stage(name, name, command, out / name, out / name, after, light=light)


def run(out, stages, **options):
    schedule = Noted(out, stages, **options)
    with Screen({one.name: one.name for one in stages}, Console(file=io.StringIO())) as screen:
        done = schedule.run(screen)
    return schedule, done


def most_at_a_time(out, stages):
    """The largest number of heavy stages at a time, and of all."""
    light = {one.name for one in stages if one.light}
    running, heavy, every = set(), 0, 0
    for name, what in map(str.split, (out / "order").read_text().splitlines()):
        running = running | {name} if what == "begins" else running - {name}
        heavy, every = max(heavy, len(running - light)), max(every, len(running))
    return heavy, every


@pytest.mark.parametrize(
    ("lights", "jobs", "most"),
    [
        ((True, False), 1, (1, 2)),
        ((False, True), 1, (1, 2)),
        ((False, False), 1, (1, 1)),
        ((True, True, True), 1, (0, 1)),
        ((False, False, False, True, True, True), 2, (2, 4)),
    ],
)
def test_so_many_stages_run_at_a_time_and_so_many_light_ones_beside_them(tmp_path, lights, jobs, most):
    stages = [stage(tmp_path, name, light=light, wait=1) for name, light in zip("abcdef", lights, strict=False)]
    _, done = run(tmp_path, stages, jobs=jobs)
    assert list(done) == [one.name for one in stages]
    assert most_at_a_time(tmp_path, stages) == most


def test_what_needs_a_failed_stage_is_not_run_and_the_others_are(tmp_path):
    stages = [
        stage(tmp_path, "a", code="raise SystemExit('no')"),
        stage(tmp_path, "b", after=("a",)),
        stage(tmp_path, "c", after=("b",)),
        stage(tmp_path, "d"),
    ]
    schedule, done = run(tmp_path, stages)
    assert list(done) == ["d"]
    assert dict(schedule.told) == {
        "a": "a: failed with exit status 1.",
        "b": "it needs a, which failed",
        "c": "it needs b, which failed",
        "d": "done",
    }


def test_what_another_process_makes_is_waited_for(tmp_path):
    """The other one holds the lock, ends the stage, and lets go of the lock."""
    one = stage(tmp_path, "a")
    lock = take(Places(tmp_path).lock(one))

    def other():
        time.sleep(0.3)
        one.result.mkdir()
        stamp = Stamp(stamps.key_of(one.command, [], ()), "python", finished=True, seconds=7.0)
        stamps.write(Places(tmp_path).stamp(one), stamp)
        lock.close()

    thread = threading.Thread(target=other)
    thread.start()
    text = io.StringIO()
    schedule = Noted(tmp_path, [one, stage(tmp_path, "b", after=("a",))])
    with Screen({"a": "a", "b": "b"}, Console(file=text)) as screen:
        done = schedule.run(screen)
    thread.join()
    assert schedule.told == [("a", "kept"), ("b", "done")]
    assert done["a"].seconds == 7.0
    assert text.getvalue().count("a: another process makes it; waiting") == 1


def test_a_finished_stage_without_its_result_goes_on_in_its_folder(tmp_path):
    """Its command makes what is missing: the checkpoints of days are not removed for a model that was moved away."""
    made = "pathlib.Path(result).mkdir(exist_ok=True); (pathlib.Path(result) / 'model').touch()"
    code = CODE.replace("pathlib.Path(result).mkdir()", made)
    one = replace(stage(tmp_path, "a", code=code), result=tmp_path / "a" / "model")
    first = run(tmp_path, [one])[1]["a"]
    (tmp_path / "a" / "model").rename(tmp_path / "a" / "moved")
    again, done = run(tmp_path, [one], replace=False)
    assert again.told == [("a", "done")]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["model", "moved"]
    assert done["a"].run == first.run
    assert done["a"].seconds > first.seconds


def test_settings_decide_whether_a_stage_is_kept(tmp_path):
    one = replace(stage(tmp_path, "a"), settings="x")
    assert [run(tmp_path, [one])[0].told for _ in range(2)] == [[("a", "done")], [("a", "kept")]]
    other = replace(one, settings="y")
    refused, _ = run(tmp_path, [other], replace=False)
    assert "was made with other settings" in refused.told[0][1]
    assert run(tmp_path, [other])[0].told == [("a", "done")]
