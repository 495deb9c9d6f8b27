"""Which stages run at the same time, and what a failure does to the others."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from recipe.mer_r1.pipeline.schedule import Schedule
from recipe.mer_r1.pipeline.screen import Screen
from recipe.mer_r1.pipeline.stage import Stage

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
        ((True, True, True), 1, (0, 2)),
        ((False, False, False, True, True), 2, (2, 3)),
    ],
)
def test_as_many_stages_run_at_a_time_as_were_asked_for_and_a_light_one_beside_them(tmp_path, lights, jobs, most):
    stages = [stage(tmp_path, name, light=light, wait=1) for name, light in zip("abcde", lights, strict=False)]
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


def test_settings_decide_whether_a_stage_is_kept(tmp_path):
    one = replace(stage(tmp_path, "a"), settings="x")
    assert [run(tmp_path, [one])[0].told for _ in range(2)] == [[("a", "done")], [("a", "kept")]]
    other = replace(one, settings="y")
    refused, _ = run(tmp_path, [other], replace=False)
    assert "was made with other settings" in refused.told[0][1]
    assert run(tmp_path, [other])[0].told == [("a", "done")]
