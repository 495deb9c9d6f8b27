"""An environment that has torch, transformers and what they need, and nothing else of this one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

HAS = ("torch", "transformers", "triton")
"""What a bare GPU machine has, with their needs; what is not installed here is left out."""


def needed_by(names: Iterable[str]) -> set[str]:
    """Names of the distributions, and of all that they ask for without an extra."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        try:
            wanted = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        if name not in found:
            found.add(name)
            for requirement in map(Requirement, wanted):
                extras = requirement.extras or {""}
                if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                    todo += [requirement.name]
                    todo += _of_extras(requirement.name, extras)
    return found


def _of_extras(name: str, extras: Iterable[str]) -> list[str]:
    try:
        wanted = [Requirement(text) for text in metadata.requires(name) or []]
    except metadata.PackageNotFoundError:
        return []
    return [one.name for one in wanted for extra in extras if one.marker and one.marker.evaluate({"extra": extra})]


def make(folder: Path) -> Path:
    """Links to the files of those distributions, for `PYTHONPATH` of an interpreter that is started with `-S`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in needed_by(HAS):
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            link, target = folder / top, Path(str(distribution.locate_file(top)))
            if target.exists() and not link.exists():
                link.symlink_to(target)
    return folder
