"""How long the rest may take."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from recipe.mer_r1.ablation.outlook import seconds_left
from recipe.mer_r1.pipeline.progress import Status
from recipe.mer_r1.pipeline.stage import Stage
from recipe.mer_r1.pipeline.stamps import Stamp


def stages(*names):
    return [Stage(name, name, (), Path(), Path(), light=name.startswith("eval")) for name in names]


def took(seconds):
    return Stamp("key", "command", finished=True, seconds=seconds)


def test_what_is_left_takes_as_long_as_such_stages_took():
    wanted = stages("rl-1", "eval-1", "rl-2", "eval-2", "rl-3")
    assert seconds_left(wanted, {}, {}, (), 1) is None  # none was seen
    done = {"rl-1": took(100.0)}
    assert seconds_left(wanted, done, {}, (), 1) == 200.0  # evaluations run beside
    assert seconds_left(wanted, done, {}, (), 2) == 100.0
    assert seconds_left(wanted, done, {}, ("rl-3",), 2) == 100.0  # one left: no use of two jobs
    assert seconds_left(wanted, done | {"rl-2": took(50.0), "rl-3": took(60.0)}, {}, (), 1) == 0.0  # no evaluation seen
    ended = done | {"rl-2": took(50.0), "rl-3": took(60.0), "eval-1": took(30.0)}
    assert seconds_left(wanted, ended, {}, (), 1) == 30.0  # eval-2 alone


def test_a_running_stage_counts_by_its_own_speed():
    running = {"rl-2": SimpleNamespace(seconds=30.0, status=Status(10, 40, "", 2.0))}  # 30 + 30 × 2 = 90 in all
    wanted = stages("rl-1", "rl-2", "rl-3")
    assert seconds_left(wanted, {"rl-1": took(110.0)}, running, (), 1) == pytest.approx(100 - 30 + 100)
