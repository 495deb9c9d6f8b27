"""The doctor on Python, libraries, the plugin and the extras."""

import pytest
from doctor_cases import FAKE, fake_project, subject

from recipe.mer_r1.doctor import software
from recipe.mer_r1.doctor.outcome import Subject
from verl_ext import versions

TINY = Subject("tiny")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Installs a project that is metadata alone and makes the doctor look at it."""

    def install(*lines):
        fake_project(tmp_path, *lines)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr(software, "PROJECT", FAKE)

    return install


def test_this_environment_is_well():
    for check in software.checks("cpu"):
        if check.name in ("python", "libraries", "plugin", "packages", "extra cpu"):
            assert check.function(TINY).status == "ok", check.name


def test_a_python_that_the_package_does_not_want(project):
    project("Requires-Python: >=3.99")
    outcome = software.check_python(TINY)
    assert outcome.status == "failed"
    assert ">=3.99" in outcome.seen


def test_a_release_that_was_never_tried(monkeypatch):
    monkeypatch.setitem(versions.KNOWN, "verl", ("0.0.1",))
    outcome = software.check_libraries(TINY)
    assert outcome.status == "failed"
    assert "verl" in outcome.seen
    assert "KNOWN" in outcome.fix


def test_a_plugin_that_verl_is_told_to_leave_out(monkeypatch):
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "another")
    outcome = software.check_plugin(TINY)
    assert outcome.status == "failed"
    assert "VERL_USE_EXTERNAL_PLUGINS" in outcome.fix


def test_a_plugin_that_vllm_is_told_to_leave_out(monkeypatch):
    monkeypatch.setenv("VLLM_PLUGINS", "another")
    outcome = software.check_plugin(TINY)
    assert (outcome.status, "VLLM_PLUGINS=another" in outcome.seen) == ("failed", True)


def test_an_entry_point_that_is_not_registered(monkeypatch):
    monkeypatch.setattr(software, "ENTRY_POINTS", ("verl.plugins", "nobody.plugins"))
    outcome = software.check_plugin(TINY)
    assert (outcome.status, "nobody.plugins" in outcome.seen) == ("failed", True)


EXTRAS = [
    "Requires-Dist: rich",
    "Requires-Dist: absent-one>=2",
    "Requires-Dist: rich<1; extra == 'cpu'",
    "Requires-Dist: absent-two; extra == 'gpu'",
    "Requires-Dist: absent-three; extra == 'demo'",
    "Requires-Dist: rich; extra == 'eval'",
    "Requires-Dist: absent-flash; extra == 'flash'",
    *(f"Provides-Extra: {name}" for name in ("cpu", "gpu", "eval", "demo", "flash")),
]


@pytest.mark.parametrize(
    ("extra", "device", "status", "said"),
    [
        ("", "cpu", "failed", "missing: absent-one>=2; installed: rich "),
        ("cpu", "cpu", "failed", "missing: rich<1 (installed: "),
        ("cpu", "cuda", "ok", "not needed by preset tiny"),
        ("gpu", "cpu", "ok", "not needed by preset tiny; missing: absent-two"),
        ("gpu", "cuda", "failed", "missing: absent-two; installed: none"),
        ("demo", "cpu", "warning", "missing: absent-three"),
        ("eval", "cpu", "ok", "rich "),
        ("flash", "cpu", "ok", "not needed by preset tiny; missing: absent-flash"),
        ("flash", "cuda", "ok", "not needed by preset tiny; missing: absent-flash"),
    ],
)
def test_extras_come_from_the_metadata_and_fail_where_the_device_needs_them(project, extra, device, status, said):
    project(*EXTRAS)
    outcome = software.check_packages(extra, TINY, device)
    assert outcome.status == status
    assert said in outcome.seen
    assert bool(outcome.fix) == (status != "ok")


def test_every_extra_of_the_metadata_has_a_check(project):
    project(*EXTRAS)
    names = [check.name for check in software.checks("cpu")]
    assert names[3:] == ["packages", "extra cpu", "extra gpu", "extra eval", "extra demo", "extra flash"]


@pytest.mark.parametrize(("extra", "device"), [("gpu", "cuda"), ("flash", "cuda"), ("flash", "cpu")])
def test_no_advice_makes_pip_resolve_the_gpu_profile_or_build_flash_attn(project, extra, device):
    project(*EXTRAS)
    outcome = software.check_packages(extra, TINY, device)
    assert "pip install" not in outcome.fix
    assert ("requirements/gpu.txt" in outcome.fix) == (extra == "gpu")


def test_flash_attn_is_told_where_it_is_there(project):
    project("Requires-Dist: rich; extra == 'flash'", "Provides-Extra: flash")
    outcome = software.check_packages("flash", TINY, "cuda")
    assert (outcome.status, outcome.seen.startswith("rich "), outcome.fix) == ("ok", True, "")


@pytest.mark.slow
def test_a_project_that_is_not_installed_fails_without_raising(monkeypatch):
    from recipe.mer_r1.doctor.outcome import run

    monkeypatch.setattr(software, "PROJECT", "nobody-installed-this")
    results = [run(check, subject(), composes=True) for check in software.checks("cpu")]
    failed = {result.name: result.seen for result in results if result.status == "failed"}
    assert set(failed) == {"python", "packages"}
    assert "nobody-installed-this" in failed["packages"]
