"""Overrides as a user writes them (`key=value`): `~` for the home folder, and Hydra's grammar explained."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from recipe.mer_r1.files import home

SWEEP = "several values, which only a sweep (--multirun) takes"
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+\-\\]+")


def expand_home(override: str) -> str:
    """`key=~/x` with the home folder; quoted where Hydra could not read the folder's name otherwise."""
    if override.startswith("-"):
        return override
    expanded = home.expand_home(override)
    if expanded != override and _parsed(expanded) is not None and (quoted := quote(expanded)):
        return quoted
    return expanded


def faults(overrides: Iterable[str]) -> Iterator[str]:
    """A message for each override that Hydra cannot read, with the quotes that it needs."""
    for override in overrides:
        problem = _parsed(override)
        if problem is None:
            continue
        if problem is SWEEP:
            key, _, value = override.partition("=")
            listed, one = shlex.quote(f"{key}=[{value}]"), shlex.quote(f'{key}="{value}"')
            yield f"{override!r} has {SWEEP}. How to fix it: {listed} is a list, {one} is one value with commas"
            continue
        quoted = quote(override)
        hint = (
            f"put the value in quotes, with a second pair for the shell: {shlex.quote(quoted)}"
            if quoted
            else "write KEY=VALUE; quote a value with special characters as 'KEY=\"VALUE\"'"
        )
        yield f"cannot read {override!r} ({problem}). How to fix it: {hint}"


def quote(override: str) -> str | None:
    """The override with its value (each item of a list) in double quotes; None where that does not help."""
    key, equals, value = override.partition("=")
    if not equals:
        return None
    if value.startswith("[") and value.endswith("]") and "[" not in value[1:]:
        items = [item.strip() for item in value[1:-1].split(",")]
        quoted = f"{key}=[{','.join(map(_quoted, items))}]"
    else:
        quoted = f"{key}={_quoted(value, always=True)}"
    return quoted if _parsed(quoted) is None else None


def _quoted(text: str, always: bool = False) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    elif not always and _PLAIN.fullmatch(text):
        return text
    return '"' + text.replace('"', '\\"') + '"'


def _parsed(override: str) -> str | None:
    """Why Hydra cannot read an override, in its own words; None where it can."""
    try:
        read = OverridesParser.create().parse_override(override)
    except HydraException as error:
        return str(error).splitlines()[0]
    return SWEEP if read.is_sweep_override() else None
