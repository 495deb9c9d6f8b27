"""requirements/gpu.txt keeps verl's own pins and what setup.py asks for; nobody here can install it."""

import re
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LINUX = {**default_environment(), "python_version": "3.12", "python_full_version": "3.12.0", "sys_platform": "linux"}


@pytest.fixture(scope="module")
def pins():
    """Package -> version."""
    lines = (ROOT / "requirements" / "gpu.txt").read_text().splitlines()
    found = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in found)
    return {canonicalize_name(name): version.split(" ")[0] for name, version in found}


def asked(extra):
    """What verl asks for with an extra, those of its own extras that the extra names included."""
    for requirement in map(Requirement, requires("verl")):
        if requirement.marker is None or requirement.marker.evaluate({**LINUX, "extra": extra}):
            if requirement.name == "verl":
                for nested in requirement.extras:
                    yield from asked(nested)
            else:
                yield requirement


def test_verls_own_pins_hold(pins):
    wanted = list(asked("vllm"))
    assert {"vllm", "torch", "transformers", "ray", "peft"} <= {requirement.name for requirement in wanted}
    for requirement in wanted:
        version = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), (str(requirement), version)
    assert (pins["vllm"], pins["torch"], pins["transformers"]) == ("0.24.0", "2.11.0", "5.9.0")


def test_what_setup_asks_for_is_there(pins):
    text = (ROOT / "setup.py").read_text()
    gpu = re.search(r"^GPU = \[(.*)\]", text, re.M)[1]
    common = re.search(r"^COMMON = \[(.*?)^\]", text, re.M | re.S)[1]
    for requirement in map(Requirement, re.findall(r'"([^"]+)"', gpu + common)):
        if requirement.name != "flash-attn":
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_flash_attn_is_built_apart_from_the_version_that_setup_names(pins):
    version = re.search(r"flash-attn==([\d.]+)", (ROOT / "setup.py").read_text())[1]
    assert "flash-attn" not in pins
    for file in ("requirements/gpu.txt", "examples/docker/Dockerfile"):
        assert f"--no-deps --no-build-isolation flash-attn=={version}" in (ROOT / file).read_text()
