"""The requirements beside the profiles change nothing that a profile or another of them pins."""

from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).parents[2] / "requirements"
EXTRA = ("notebook", "jupyterlab", "track", "smol", "mutants")


def pins(name: str) -> dict[str, str]:
    """Package -> version."""
    lines = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    found = (line.split("==") for line in lines if line and line[0] not in "#-")
    return {canonicalize_name(package): version.strip() for package, version in found}


@pytest.mark.parametrize("name", EXTRA)
def test_no_version_of_the_cpu_profile_or_of_another_file_is_changed(name):
    mine = pins(name)
    assert mine
    for other in ("cpu", *EXTRA):
        theirs = pins(other)
        assert [package for package in mine.keys() & theirs.keys() if mine[package] != theirs[package]] == [], other
