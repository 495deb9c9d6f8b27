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
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_flash_attn_is_optional_and_built_apart_in_the_version_that_setup_names(pins):
    flash = re.search(r"^FLASH = \[(.*)\]", (ROOT / "setup.py").read_text(), re.M)[1]
    version = re.fullmatch(r'"flash-attn==([\d.]+)"', flash)[1]
    assert "flash-attn" not in pins
    for file in ("requirements/gpu.txt", "docs/presets.md", "examples/docker/Dockerfile"):
        assert f"--no-deps --no-build-isolation flash-attn=={version}" in (ROOT / file).read_text()


def test_the_default_image_is_without_flash_attn_and_without_its_compiler():
    """The last stage is what `docker build` makes without --target."""
    text = (ROOT / "examples" / "docker" / "Dockerfile").read_text()
    stages = dict(re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM |\Z)", text, re.M | re.S))
    bases = {name: base for base, name in re.findall(r"^FROM (\S+) AS (\w+)$", text, re.M)}
    assert {name for name, body in stages.items() if "flash-attn==" in body} == {"build_flash"}
    assert {name for name, body in stages.items() if "--from=build_flash" in body} == {"flash"}
    assert list(stages)[-1] == "default"
    assert "-devel-" in bases["build_flash"]
    chain = bases["default"]
    while chain in bases:
        assert "flash" not in chain
        chain = bases[chain]
    assert "-devel-" not in chain


def test_the_driver_that_is_told_is_the_one_for_the_pinned_torch(pins):
    """docs/presets.md and requirements/gpu.txt name the driver that the doctor asks for."""
    from recipe.mer_r1.doctor.driver import LEAST_DRIVER

    least = LEAST_DRIVER[int(pins["cuda-toolkit"].partition(".")[0])]
    for file in ("requirements/gpu.txt", "docs/presets.md", "examples/docker/Dockerfile"):
        assert f"driver {least}" in (ROOT / file).read_text()
