"""Compare the settings of two runs: `python -m recipe.mer_r1.config diff A B`.

    python -m recipe.mer_r1.config diff outputs/demo/baseline outputs/demo/mer_r1
    python -m recipe.mer_r1.config diff outputs/mine 'preset=omni7b cluster=h100_1x8'

A and B are each the folder of a run, or the overrides of one in quotes. A key that only follows another key that
differs (its value is an interpolation of that key) is left out; --all prints it, too. Exit code 0, whether they differ
or not.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recipe.mer_r1.files import exits
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.rehearse.difference import ABSENT, leaves, references, shown
from recipe.mer_r1.run import launch, record

PROGRAMS = ("ppo", "sft")
_NO_SETTINGS = "experiment.paper."
"""The paper's numbers of an experiment."""


@dataclass(frozen=True)
class Side:
    """One of the two.

    Attributes:
        name: as it was given.
        program: ppo or sft; None where a run's folder does not say it.
        config: resolved.
        facts: of a run's last start, beside the configuration: command, code, versions.
    """

    name: str
    program: str | None
    config: DictConfig
    facts: dict[str, str] = field(default_factory=dict)


def read_run(folder: Path) -> Side:
    """A run's folder. Raises InputError where it has no configuration."""
    config, starts = record.read_config(folder), record.read_starts(folder)
    if config is None:
        raise InputError(f"{folder}: has no {record.CONFIG}; give the run_dir of main_sft or main_ppo")
    last = starts[-1] if starts else {}
    facts = {"command": last.get("command", ""), "code": last.get("git") or ""} | last.get("versions", {})
    return Side(str(folder), last.get("stage"), config, facts if last else {})


def read_side(text: str, program: str) -> Side:
    """A folder, or overrides for `program`. Wrong overrides end the program with exit code 2."""
    if "=" not in text or Path(text).is_dir():
        return read_run(Path(text))
    return Side(text, program, launch.check_overrides(program, shlex.split(text)))


def read_both(texts: Sequence[str], program: str | None) -> tuple[Side, Side]:
    """Both sides; overrides are for `program`, or for that of the other side's run.

    Raises:
        InputError: a folder has no configuration, or the runs are of different programs.
    """
    runs = [read_run(Path(text)) for text in texts if "=" not in text or Path(text).is_dir()]
    program = program or next((run.program for run in runs if run.program), PROGRAMS[0])
    one, other = (read_side(text, program) for text in texts)
    if one.program and other.program and one.program != other.program:
        raise InputError(f"{one.name} is of main_{one.program} and {other.name} of main_{other.program}")
    return one, other


def differences(one: Side, other: Side) -> dict[str, tuple[Any, Any, str]]:
    """Key → both values, and the key that differs too and that this one follows; "" where it follows none."""
    mine, others = (leaves(OmegaConf.to_container(side.config)) for side in (one, other))
    differing = {
        key: (mine.get(key, ABSENT), others.get(key, ABSENT))
        for key in dict.fromkeys([*mine, *others])
        if mine.get(key, ABSENT) != others.get(key, ABSENT) and not key.startswith(_NO_SETTINGS)
    }
    program = one.program or other.program or PROGRAMS[0]
    raw = OmegaConf.to_container(launch.compose(program, [], resolve=False), resolve=False)
    return {
        key: (*values, next((leader for leader in references(raw, key) if leader in differing and leader != key), ""))
        for key, values in differing.items()
    }


def lines(one: Side, other: Side, found: dict[str, tuple[Any, Any, str]], every: bool) -> list[str]:
    """For the terminal."""
    kept = {key: entry for key, entry in found.items() if every or not entry[2]}
    texts = [f"A: {one.name}", f"B: {other.name}"]
    texts += [
        f"{key}: {shown(a)} → {shown(b)}{f'   (follows {led})' if led else ''}" for key, (a, b, led) in kept.items()
    ]
    if not found:
        texts.append("no key differs")
    elif len(kept) < len(found):
        texts.append(f"{len(found) - len(kept)} more keys follow these (--all prints them)")
    facts = [name for name in one.facts if name in other.facts and one.facts[name] != other.facts[name]]
    return [*texts, *(f"{name}: {one.facts[name]} → {other.facts[name]}" for name in facts)]


@exits.plain("config", "interrupted")
def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and print; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m recipe.mer_r1.config", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    diff = parser.add_subparsers(required=True, metavar="COMMAND").add_parser("diff", help="compare two runs")
    diff.add_argument("sides", nargs=2, metavar="RUN_DIR|'KEY=VALUE …'", help="a run's folder, or overrides in quotes")
    diff.add_argument("--program", choices=PROGRAMS, help="for overrides; default: the other run's program, else ppo")
    diff.add_argument("--all", action="store_true", dest="every", help="also keys that follow another key")
    diff.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    try:
        one, other = read_both(options.sides, options.program)
    except InputError as error:
        print(f"config: {error}", file=sys.stderr)
        return exits.INPUT
    found = differences(one, other)
    if options.json:
        keys = {key: {"a": a, "b": b, "follows": led or None} for key, (a, b, led) in found.items()}
        print(json.dumps({"a": one.name, "b": other.name, "keys": keys}, indent=1, ensure_ascii=False))
    else:
        print("\n".join(lines(one, other, found, options.every)))
    return exits.OK


if __name__ == "__main__":
    raise SystemExit(main())
