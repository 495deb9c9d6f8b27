"""Python, the extended libraries, the plugin's entry points and the extras' packages."""

from __future__ import annotations

import os
import sys
from functools import partial
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from recipe.mer_r1.doctor.outcome import INSTALL_GPU, Check, Outcome, Subject, failed, ok, warning
from verl_ext.versions import UnknownVersionError, check_versions

PROJECT = "mer-r1"
INSTALL = "`make setup`, or `pip install -e .` in the repository"
ENTRY_POINTS = ("verl.plugins", "vllm.general_plugins")
# The extras that a run on a device cannot do without.
NEEDED = {"cpu": "cpu", "cuda": "gpu"}
# How to install an extra, where `pip install -e ".[extra]"` is not the way.
HOW = {
    "": "`make setup`",
    "cpu": "`make setup`",
    "gpu": INSTALL_GPU,
}
# Never needed, and hard to install: only told.
OPTIONAL = ("flash",)


def check_python(_: Subject) -> Outcome:
    """This interpreter is one that the package declares."""
    version = ".".join(map(str, sys.version_info[:3]))
    wanted = metadata.metadata(PROJECT)["Requires-Python"]
    if not SpecifierSet(wanted).contains(version):
        return failed(
            f"{version}, but {PROJECT} needs {wanted}", "make an environment with a Python that fits (`make setup`)"
        )
    return ok(f"{version} (needs {wanted}), {sys.executable}")


def check_libraries(_: Subject) -> Outcome:
    """verl, vLLM and transformers are releases that verl_ext was tried with; torch is there."""
    try:
        found = check_versions() | {"torch": metadata.version("torch")}
    except UnknownVersionError as error:
        problems, _, fix = str(error).partition("\n")
        return failed(problems.removeprefix("verl_ext: "), fix)
    except metadata.PackageNotFoundError:
        return failed("torch is not installed", INSTALL)
    return ok(", ".join(f"{name} {version}" for name, version in found.items()))


def check_plugin(_: Subject) -> Outcome:
    """Both entry points are registered, verl has loaded its one, and vLLM may load its one."""
    for group in ENTRY_POINTS:
        points = [point for point in metadata.entry_points(group=group) if point.name == "verl_ext"]
        if not points:
            return failed(f"there is no entry point verl_ext in group {group}", INSTALL)
        points[0].load()
    allowed = os.environ.get("VLLM_PLUGINS")  # vLLM loads all where it is unset
    if allowed is not None and "verl_ext" not in allowed.split(","):
        return failed(f"vLLM does not load verl_ext with VLLM_PLUGINS={allowed}", "unset it, or add verl_ext to it")
    from verl_ext import patches, plugin

    try:
        plugin.require()
    except SystemExit as error:
        seen, _, fix = str(error).partition(": ")
        return failed(seen, fix)
    return ok(f"{' and '.join(ENTRY_POINTS)}; {len(patches.VERL_PATCHES)} patches for verl")


def check_packages(extra: str, subject: Subject, device: str | None) -> Outcome:
    """Which packages of an extra ("": the project's own) are there; lacking ones fail where the device needs them."""
    there, lacking = packages(PROJECT, extra)
    if not lacking:
        return ok(", ".join(there))
    seen = f"missing: {', '.join(lacking)}; installed: {', '.join(there) or 'none'}"
    how = HOW.get(extra, f'`pip install -e ".[{extra}]"`')
    if extra in ("", NEEDED.get(device or "")):
        return failed(seen, how)
    if extra in NEEDED.values() or extra in OPTIONAL:
        return ok(f"not needed by preset {subject.preset_name}; {seen}")
    return warning(seen, f"{how} if you need it")


def packages(project: str, extra: str) -> tuple[list[str], list[str]]:
    """Packages that a project's metadata asks for, with versions: installed ones, and those that lack or do not fit.

    Extras of other packages (``verl[vllm]``) are followed; of theirs only what lacks is told.
    """
    there, lacking = [], []
    for requirement in requirements(project, extra):
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            lacking.append(f"{requirement.name}{requirement.specifier}")
            continue
        if requirement.specifier.contains(version, prereleases=True):
            there.append(f"{requirement.name} {version}")
        else:
            lacking.append(f"{requirement.name}{requirement.specifier} (installed: {version})")
        for nested in requirement.extras:
            lacking += packages(requirement.name, nested)[1]
    return there, list(dict.fromkeys(lacking))


def requirements(project: str, extra: str) -> list[Requirement]:
    """What the extra adds to the project's own requirements; these where the extra is ""."""
    all_of_them = [Requirement(text) for text in metadata.requires(project) or []]
    plain = [r for r in all_of_them if r.marker is None or r.marker.evaluate({"extra": ""})]
    if not extra:
        return plain
    return [r for r in all_of_them if r not in plain and r.marker.evaluate({"extra": extra})]


def checks(device: str | None) -> list[Check]:
    """All of this page; the extras are those that the installed metadata names.

    Args:
        device: of the preset, which decides what is needed; None where it is not known.
    """
    found = [Check("python", check_python), Check("libraries", check_libraries), Check("plugin", check_plugin)]
    extras = metadata.metadata(PROJECT).get_all("Provides-Extra") if installed() else []
    for extra in ["", *extras]:
        name = f"extra {extra}" if extra else "packages"
        found.append(Check(name, partial(check_packages, extra, device=device)))
    return found


def installed() -> bool:
    """Whether the project itself is installed, which is where its metadata and entry points come from."""
    return any(True for _ in metadata.distributions(name=PROJECT))
