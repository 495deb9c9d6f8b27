"""What this process may use of the machine: CPU cores, visible GPUs, the address on a network interface.

``python -m recipe.mer_r1.run.machine cpus|address INTERFACE``, used by ``examples/slurm/``. Imports nothing heavy.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


class InterfaceError(ValueError):
    """A network interface that is not there or has no address; the message names those that have one."""


def usable_cpus() -> int:
    """CPU cores that this process may use: its affinity (taskset, SLURM), and its cgroup's limit (docker, Kubernetes).

    A limit of 2.5 cores counts as 2; at least 1.
    """
    limit = cgroup_cpus()
    allowed = len(os.sched_getaffinity(0))
    return allowed if limit is None else max(1, min(allowed, int(limit)))


def cgroup_cpus() -> float | None:
    """The smallest CPU limit of this process' cgroups and their parents, in cores; None without a limit."""
    found = [limit for folder in _cgroup_folders() if (limit := _limit(folder)) is not None]
    return min(found, default=None)


def _cgroup_folders() -> list[Path]:
    lines = OWN_CGROUPS.read_text().splitlines() if OWN_CGROUPS.is_file() else []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2, alone or beside version 1
            roots = [CGROUPS, CGROUPS / "unified"]
        elif "cpu" in controllers.split(","):
            roots = [CGROUPS / controllers, CGROUPS / "cpu"]
        else:
            continue
        own = path.strip("/")
        # A container may see its own cgroup as the root, under a path of the host that is not there.
        parents = [own, *map(str, Path(own).parents)] if own else [""]
        folders += [root / parent for root in roots for parent in parents]
    return folders


def _limit(folder: Path) -> float | None:
    """Cores by ``cpu.max`` (version 2) or ``cpu.cfs_quota_us`` (version 1)."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def visible_devices_fault(environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Variables that choose GPUs and contradict each other: what is wrong, and how to fix it; None where all is well.

    Ray refuses ROCR_VISIBLE_DEVICES on any machine, and verl refuses it beside CUDA_VISIBLE_DEVICES.
    """
    cuda, hip, rocr = (environment.get(f"{name}_VISIBLE_DEVICES") for name in ("CUDA", "HIP", "ROCR"))
    if rocr is not None:
        beside = "".join(f" and {n}_VISIBLE_DEVICES={v}" for n, v in (("CUDA", cuda), ("HIP", hip)) if v is not None)
        return (
            f"ROCR_VISIBLE_DEVICES={rocr}{beside}: Ray and verl refuse ROCR_VISIBLE_DEVICES (SLURM may set it)",
            "unset ROCR_VISIBLE_DEVICES" + ("" if cuda else f", and set CUDA_VISIBLE_DEVICES={rocr or '0'} instead"),
        )
    if hip and cuda and hip != cuda:
        return (
            f"HIP_VISIBLE_DEVICES={hip} and CUDA_VISIBLE_DEVICES={cuda}: verl refuses different values",
            "unset HIP_VISIBLE_DEVICES",
        )
    return None


def address_of(interface: str) -> str:
    """The IPv4 address of a network interface of this machine.

    Raises:
        InterfaceError: there is no such interface, or it has no IPv4 address.
    """
    there = {
        name: entry.address
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
        if entry.family == socket.AF_INET
    }
    if interface not in there:
        known = ", ".join(f"{name} ({address})" for name, address in sorted(there.items())) or "none"
        raise InterfaceError(
            f"network interface {interface!r}: {socket.gethostname()} has no such interface with an IPv4 address. "
            f"Set INTERFACE to one that all nodes have. Here: {known}."
        )
    return there[interface]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 for an interface that is not there."""
    parser = argparse.ArgumentParser(prog="python -m recipe.mer_r1.run.machine", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("cpus", help="print the number of CPU cores that this process may use")
    address = commands.add_parser("address", help="print the IPv4 address of a network interface")
    address.add_argument("interface", help="its name, for example ib0")
    given = parser.parse_args(arguments)
    try:
        print(usable_cpus() if given.command == "cpus" else address_of(given.interface))
    except InterfaceError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
