"""Deal overrides out to SFT and RL: `python -m recipe.mer_r1.run.split KEY=VALUE …`, for examples/slurm/paper.sh.

Prints a line `sft KEY=VALUE` or `ppo KEY=VALUE` for each program that knows the key, both lines where both know it.
Exit code 2: none of them knows it, or a value is wrong; the message is that of the program.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from recipe.mer_r1.files import exits
from recipe.mer_r1.run import launch

PROGRAMS = ("sft", "ppo")


def split(overrides: Sequence[str]) -> dict[str, list[str]]:
    """The overrides of each program, in their order. Unknown keys and wrong values end the program with exit code 2."""
    keys = {override: override.lstrip("+~").partition("=")[0] for override in overrides}
    found: dict[str, list[str]] = {}
    for program in PROGRAMS:
        groups = launch.groups(program)
        chosen = [override for override in overrides if keys[override] in groups]
        known = {*launch.keys(_composed(program, chosen)), *groups}
        found[program] = [
            override
            for override in overrides
            # `+a.b=1` adds a key to a part of the tree that is there.
            if keys[override] in known or (override.startswith("+") and keys[override].rpartition(".")[0] in known)
        ]
    for override in overrides:
        if not any(override in mine for mine in found.values()):
            launch.check_overrides("ppo", [override])
    for program, mine in found.items():
        launch.check_overrides(program, mine)
    return found


def _composed(program: str, chosen: list[str]) -> launch.DictConfig:
    """The tree with the choices, unresolved; without them where they are wrong, which is said later."""
    try:
        return launch.compose(program, chosen, resolve=False)
    except (HydraException, OmegaConfBaseException):
        return launch.compose(program, [], resolve=False)


@exits.plain("split", "interrupted")
def main(arguments: Sequence[str]) -> int:
    """Print; the exit code."""
    for program, overrides in split(arguments).items():
        for override in overrides:
            print(program, override)
    return exits.OK


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
