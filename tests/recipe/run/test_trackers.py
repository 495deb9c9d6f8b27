"""Trackers store in the run's folder, offline; one that is not installed is named before anything starts."""

import glob
import json
import os
import sqlite3
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from recipe.mer_r1.run import launch, trackers

ROOT = Path(__file__).parents[3]
VALUES = [0.6809027777777779, 0.7274305555555557]


def test_the_profiles_own_loggers_are_there():
    assert trackers.check(["console", "file", "tensorboard", "wandb"]) is None
    assert trackers.check("console") is None


def test_an_unknown_logger_is_named_with_those_that_verl_knows():
    said = trackers.check(["console", "wandbb"])
    assert "unknown trackers wandbb;" in said
    assert "swanlab" in said


@pytest.mark.parametrize(("name", "way_out"), [("swanlab", "requirements/track.txt"), ("clearml", "module clearml")])
def test_a_logger_that_is_not_installed_is_named_with_the_way_out(monkeypatch, name, way_out):
    monkeypatch.setattr(trackers, "find_spec", lambda module: None if module == name else find_spec(module))
    said = trackers.check(["console", name])
    assert f"{name}, which is not installed" in said
    assert way_out in said


def test_storage_is_the_runs_folder_and_the_users_own_setting_wins(tmp_path, monkeypatch):
    for name in trackers.NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "online")
    trackers.prepare(str(tmp_path / "run"))
    assert os.environ["WANDB_MODE"] == "online"
    assert os.environ["WANDB_DIR"] == str(tmp_path / "run")
    assert os.environ["SWANLAB_MODE"] == "offline"
    assert (tmp_path / "run").is_dir()
    assert set(trackers.NAMES) <= set(launch.forwarded_environment())
    for name in trackers.NAMES:  # monkeypatch restores only what it has changed
        monkeypatch.delenv(name)


@pytest.mark.seam
def test_the_list_of_loggers_is_verls():
    tracking = pytest.importorskip("verl.utils.tracking")
    assert set(trackers.MODULES) == set(tracking.Tracking.supported_backend)


_LOG = """
import json, sys
from recipe.mer_r1.run import trackers
loggers, run_dir, values = json.loads(sys.argv[1])
trackers.prepare(run_dir)
from verl.utils.tracking import Tracking
tracking = Tracking("mer_r1", "tiny-baseline", loggers, config={"run_dir": run_dir, "trainer": {"logger": loggers}})
for step, value in enumerate(values, 1):
    tracking.log({"reward/recall": value, "val-aux/missing": 0}, step=step)
tracking.finish()
"""


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A run's folder after verl has logged two steps to every tracker that is installed, from another folder."""
    folder = tmp_path_factory.mktemp("tracked")
    run_dir, elsewhere = folder / "run", folder / "elsewhere"
    elsewhere.mkdir()
    loggers = [name for name in trackers._TRIED if find_spec(trackers.MODULES[name])]
    environment = {name: value for name, value in os.environ.items() if name not in trackers.NAMES}
    environment |= {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", _LOG, json.dumps([loggers, str(run_dir), VALUES])],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert list(elsewhere.iterdir()) == []
    return run_dir


def only(pattern):
    found = glob.glob(str(pattern))
    assert len(found) == 1, found
    return found[0]


@pytest.mark.seam
def test_tensorboard_holds_both_steps(logged):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(logged / "tensorboard")).Reload().Scalars("reward/recall")
    assert [(event.step, event.value) for event in events] == [
        (1, pytest.approx(VALUES[0])),
        (2, pytest.approx(VALUES[1])),
    ]


@pytest.mark.seam
def test_wandb_holds_both_steps_offline(logged):
    stored = Path(only(logged / "wandb" / "offline-run-*" / "run-*.wandb")).read_bytes()
    assert b"reward/recall" in stored
    assert all(repr(value).encode() in stored for value in VALUES)


@pytest.mark.seam
def test_trackio_holds_both_steps(logged):
    pytest.importorskip("trackio")
    with sqlite3.connect(only(logged / "trackio" / "*.db")) as database:
        rows = database.execute("select step, metrics from metrics order by step").fetchall()
    assert [(step, json.loads(metrics)["reward/recall"]) for step, metrics in rows] == [(1, VALUES[0]), (2, VALUES[1])]


@pytest.mark.seam
def test_swanlab_holds_both_steps_offline(logged):
    pytest.importorskip("swanlab")
    stored = Path(only(logged / "swanlab" / "run-*" / "run-*.swanlab")).read_bytes()
    assert b"reward/recall" in stored
    assert all(struct.pack("<d", value) in stored for value in VALUES)
