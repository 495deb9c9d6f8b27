"""Which releases this package is written for. Another release stops the run: the seams below it may have moved."""

from __future__ import annotations

from importlib import metadata

# What ran on a CPU (the lock in requirements/) and what verl 0.9.1 pins for CUDA.
KNOWN = {
    "verl": ("0.9.1",),
    "transformers": ("5.10.4", "5.9.0"),
    "vllm": ("0.28.0", "0.24.0"),
}


class UnknownVersionError(SystemExit):
    """A SystemExit, because verl swallows every ordinary exception of a plugin at DEBUG level."""


def check_versions() -> dict[str, str]:
    """Installed versions of the libraries that are extended, by name.

    Raises:
        UnknownVersionError: one of them is missing or was never tried.
    """
    found, problems = {}, []
    for name, known in KNOWN.items():
        try:
            found[name] = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            problems.append(f"{name} is not installed")
            continue
        if found[name] not in known:
            problems.append(f"{name} {found[name]} is not tested (tested: {', '.join(known)})")
    if problems:
        raise UnknownVersionError(
            "verl_ext: " + "; ".join(problems) + ".\n"
            "Install the pinned environment (`make setup`), or add the release to KNOWN in verl_ext/versions.py\n"
            "and run `make test`."
        )
    return found
