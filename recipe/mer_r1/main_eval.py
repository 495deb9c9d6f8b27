"""Evaluation: ``python -m recipe.mer_r1.main_eval COMMAND …``; every command answers ``--help`` in a second."""

from __future__ import annotations

import importlib
import sys

# Command: the module whose `main(argv) -> exit status` runs it, and what it does.
COMMANDS = {
    "generate": ("recipe.mer_r1.eval.generate", "answers of a model to the clips of a shard, scored on the wheels"),
}


def main(argv: list[str]) -> int:
    """Hand over to a command's module, which alone is imported."""
    if argv and argv[0] in COMMANDS:
        return importlib.import_module(COMMANDS[argv[0]][0]).main(argv[1:])
    lines = ["usage: python -m recipe.mer_r1.main_eval COMMAND …", ""]
    lines += [f"  {name:<12} {purpose}" for name, (_, purpose) in COMMANDS.items()]
    if argv and argv[0] in ("-h", "--help"):
        print("\n".join(lines))
        return 0
    if argv:
        lines.insert(0, f"main_eval: no command {argv[0]!r}")
    print("\n".join(lines), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
