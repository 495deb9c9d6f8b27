"""Start a Ray cluster from a scheduler's script: the head's address, the options of each node, and waiting for nodes.

``python -m recipe.mer_r1.run.ray_cluster address|options|wait …``, used by ``examples/slurm/``.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Sequence

from omegaconf import DictConfig, open_dict

from recipe.mer_r1.run import launch, machine, output
from verl_ext.platform import ports

# What a node of a cluster is started with; who joins it cannot say it again.
START_KEYS = ("num_cpus", "num_gpus", "object_store_memory")
POLL_SECONDS = 0.5


def options(config: DictConfig) -> list[str]:
    """``ray start``'s options for a node of this run: what `ray_kwargs.ray_init` says of a node's resources."""
    asked = config.ray_kwargs.ray_init
    return [f"--{key.replace('_', '-')}={asked[key]}" for key in START_KEYS if asked.get(key) is not None]


def check_nodes(config: DictConfig, nodes: int) -> None:
    """Whether a run's pools of workers fit the nodes that a scheduler has given.

    Raises:
        ValueError: a pool wants more nodes than there are, or all together fewer.
    """
    actor, rollout = config.trainer.nnodes, config.actor_rollout_ref.rollout.nnodes
    pools = f"preset.nnodes={actor}" + (f" and mode.rollout_nodes={rollout}" if rollout else "")
    way_out = (
        "Give the job as many nodes as the run uses (sbatch --nodes); without preset.nnodes the run uses all nodes."
    )
    if max(actor, rollout) > nodes:
        raise ValueError(f"{pools}: the run needs more nodes than the job has ({nodes}). {way_out}")
    if actor + rollout < nodes:
        raise ValueError(f"{pools}: some of the job's {nodes} nodes would be idle. {way_out}")


def join_where_named(config: DictConfig) -> None:
    """Make a run ready to join the cluster that RAY_ADDRESS or `ray_kwargs.ray_init.address` names, if one does.

    Drops what `ray.init` refuses to hear from who joins: the cluster's nodes have said it (:func:`options`). Without a
    cluster, Ray gets the CPUs that this process may use where the configuration names no number: Ray itself would count
    the host's, and not see an affinity.
    """
    ray_init = config.ray_kwargs.ray_init
    if os.environ.get("RAY_ADDRESS") or ray_init.get("address"):
        with open_dict(ray_init):
            for key in START_KEYS:
                ray_init.pop(key, None)
    elif ray_init.get("num_cpus") is None:
        with open_dict(ray_init):
            ray_init.num_cpus = machine.usable_cpus()
        output.say(
            f"Ray: {ray_init.num_cpus} CPUs, those that this process may use. If the run waits for CPUs, give it more, "
            "or set preset.ray.num_cpus (Ray only counts them)."
        )


def free_address() -> str:
    """``IP:PORT`` of this machine, as other nodes reach it, with a port that is free now.

    INTERFACE names the network interface; without it, Ray chooses the one of the default route.

    Raises:
        InterfaceError: there is no such interface.
    """
    if interface := os.environ.get("INTERFACE"):
        return f"{machine.address_of(interface)}:{ports.free_port()}"
    import ray

    return f"{ray.util.get_node_ip_address()}:{ports.free_port()}"


def wait_for_nodes(address: str, names: Sequence[str], seconds: float) -> list[str]:
    """Wait until Ray counts every one of these nodes among the living, by the name that each was started with.

    Args:
        address: ``IP:PORT`` of the head.
        names: one a node (``ray start --node-name``).
        seconds: how long to wait at most.

    Returns:
        The names of the nodes that have not come.
    """
    deadline = time.monotonic() + seconds
    # Ray's own client ends the process when nobody listens.
    while not _listens(address):
        if time.monotonic() > deadline:
            return list(names)
        time.sleep(POLL_SECONDS)
    import ray

    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    try:
        while True:
            alive = {node["NodeName"] for node in ray.nodes() if node["Alive"]}
            missing = [name for name in names if name not in alive]
            if not missing or time.monotonic() > deadline:
                return missing
            time.sleep(POLL_SECONDS)
    finally:
        ray.shutdown()


def _listens(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except OSError:
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 for nodes that did not come, 2 for wrong overrides."""
    parser = argparse.ArgumentParser(prog="python -m recipe.mer_r1.run.ray_cluster", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("address", help="print IP:PORT for the head on this machine, with a free port")
    asked = commands.add_parser("options", help="print the options of `ray start` for each node of a run, one per line")
    asked.add_argument("nodes", type=int, help="number of nodes of the job")
    asked.add_argument("arguments", nargs=argparse.REMAINDER, help="the same overrides as for main_ppo")
    wait = commands.add_parser("wait", help="wait until all these nodes have joined; exit status 1 if some do not join")
    wait.add_argument("address", help="IP:PORT of the head")
    wait.add_argument("seconds", type=float, help="longest time to wait")
    wait.add_argument("names", nargs="+", help="node names, as in ray start --node-name")
    given = parser.parse_args(arguments)
    if given.command == "address":
        try:
            print(free_address())
        except machine.InterfaceError as error:
            print(error, file=sys.stderr)
            return 2
    elif given.command == "options":
        overrides = [argument for argument in given.arguments if not argument.startswith("-")]
        config = launch.check_overrides("ppo", overrides)
        try:
            check_nodes(config, given.nodes)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        print("\n".join(options(config)))
    else:
        missing = wait_for_nodes(given.address, given.names, given.seconds)
        if missing:
            came = len(given.names) - len(missing)
            print(
                f"{came} of {len(given.names)} Ray nodes are up after {given.seconds:g} s; missing: "
                f"{', '.join(missing)}",
                file=sys.stderr,
            )
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
