"""Unknown releases stop a run with advice; known ones pass."""

from importlib import metadata

import pytest

from verl_ext import versions


@pytest.fixture
def installed(monkeypatch):
    """A function that makes releases look installed: name -> version, None for absent."""

    def pretend(**releases):
        real = metadata.version

        def version(name):
            if name not in releases:
                return real(name)
            if releases[name] is None:
                raise metadata.PackageNotFoundError(name)
            return releases[name]

        monkeypatch.setattr(versions.metadata, "version", version)

    return pretend


def test_this_environment_is_known():
    assert set(versions.check_versions()) == {"verl", "transformers", "vllm"}


@pytest.mark.parametrize("suffix", ["", "+cpu", "+cu128"])
def test_a_local_version_is_the_same_release(suffix, installed):
    installed(vllm=f"0.28.0{suffix}")
    assert versions.check_versions()["vllm"] == "0.28.0"


@pytest.mark.parametrize(("name", "release"), [("verl", "0.10.0"), ("transformers", "5.11.0"), ("vllm", "0.29.0")])
def test_an_unknown_release_stops_with_advice(name, release, installed):
    installed(**{name: release})
    with pytest.raises(SystemExit) as caught:
        versions.check_versions()
    message = str(caught.value)
    assert f"{name} {release} is not tested" in message
    assert versions.KNOWN[name][0] in message
    assert "make setup" in message
    assert "KNOWN in verl_ext/versions.py" in message


def test_all_problems_are_named_at_once(installed):
    installed(verl="1.0", transformers="6.0", vllm=None)
    with pytest.raises(SystemExit, match=r"verl 1\.0 .*transformers 6\.0 .*vllm is not installed"):
        versions.check_versions()


def test_verl_does_not_swallow_it():
    """verl catches Exception around every plugin and logs it at DEBUG level."""
    assert not issubclass(versions.UnknownVersionError, Exception)
