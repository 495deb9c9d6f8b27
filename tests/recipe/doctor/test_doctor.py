"""The doctor's command: exit codes, table, JSON, and checks that raise."""

import json
import os
import subprocess
import sys
from unittest import mock

import pytest

from recipe.mer_r1.doctor import __main__ as doctor
from recipe.mer_r1.doctor.outcome import Check, Subject, ok, run, warning

NAMES = ["preset", "python", "libraries", "plugin", "packages", "gpus", "memory", "cores", "shared memory", "disk"]
NAMES += ["loopback", "codecs", "ffmpeg", "espeak-ng", "wheels", "shards", "base model"]
NAMES += ["model", "confidence", "vLLM and transformers agree"]


@pytest.fixture(autouse=True)
def environment():
    """As it was: the command sets what libraries read."""
    with mock.patch.dict(os.environ):
        yield


def only(monkeypatch, *functions):
    """The preset's check and these."""
    monkeypatch.setattr(doctor.software, "checks", lambda _: [])
    for module in (doctor.machine, doctor.inputs, doctor.confidence, doctor.agreement):
        monkeypatch.setattr(module, "CHECKS", [])
    made = [Check(function.__name__, function, needs_preset=True) for function in functions]
    monkeypatch.setattr(doctor.machine, "CHECKS", made)


def sound(_):
    return ok("all [bold]well[/bold]")


def doubtful(_):
    return warning("a\nb", "look")


def broken(_):
    raise ZeroDivisionError("nobody\nthought of it")


def stopped(_):
    raise SystemExit("enough")


@pytest.mark.parametrize(("functions", "code"), [([sound], 0), ([sound, doubtful], 0), ([sound, broken], 1)])
def test_exit_codes(monkeypatch, capsys, functions, code):
    only(monkeypatch, *functions)
    assert doctor.main([]) == code
    out = capsys.readouterr().out
    assert ("cannot run" if code else "can run") in out
    assert "[bold]well[/bold]" in out, "what was seen is text, not markup"


@pytest.mark.parametrize(
    ("function", "seen"), [(broken, "ZeroDivisionError: nobody thought of it"), (stopped, "SystemExit: enough")]
)
def test_a_check_that_raises_fails_and_names_the_exception(function, seen):
    result = run(Check("it", function), Subject("tiny"), composes=True)
    assert (result.status, result.seen) == ("failed", seen)


def test_the_others_go_on_without_a_preset(monkeypatch, capsys):
    only(monkeypatch, sound)
    assert doctor.main(["--preset", "nobody", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [check["status"] for check in found["checks"]] == ["failed", "warning"]


def test_json_has_every_check_on_one_line_each(capsys, tmp_path):
    code = doctor.main(["--json", "--wheels", str(tmp_path)])
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"preset", "runs", "checks"}
    assert (found["preset"], found["runs"], code) == ("tiny", False, 1)
    checks = {check["name"]: check for check in found["checks"]}
    assert len(checks) == len(found["checks"])
    assert [name for name in checks if not name.startswith("extra ")] == NAMES
    for check in checks.values():
        assert set(check) == {"name", "status", "seen", "fix"}
        assert check["status"] in ("ok", "warning", "failed")
        assert check["seen"]
        assert "\n" not in check["seen"] + check["fix"]
        assert bool(check["fix"]) == (check["status"] != "ok"), check
    assert [name for name, check in checks.items() if check["status"] == "failed"] == ["wheels"]


def test_nothing_heavy_is_imported_before_the_environment_is_set():
    code = (
        "import sys, recipe.mer_r1.doctor.__main__; print({'torch', 'verl', 'av', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
