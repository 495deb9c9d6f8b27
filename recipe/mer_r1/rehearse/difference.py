"""Every key that differs between a real and a rehearsed configuration, with its reason; without one it is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

ABSENT = "(not there)"
_WORD = re.compile(r"\.*[A-Za-z_][\w.]*")


class UnexplainedError(ValueError):
    """A key differs, and the rehearsal has no reason for it: a fault of the rehearsal."""


@dataclass(frozen=True)
class Difference:
    """One key.

    Attributes:
        why: the reason of a change; "" where the key follows another one.
        follows: the key whose value it takes, "" for a change.
    """

    key: str
    real: Any
    rehearsed: Any
    why: str = ""
    follows: str = ""


def differences(
    real: DictConfig, rehearsed: DictConfig, unresolved: DictConfig, reasons: Mapping[str, str]
) -> list[Difference]:
    """Changes first, in the order of `reasons`; then what follows them.

    Args:
        real, rehearsed: resolved.
        unresolved: the rehearsed one with its interpolations, which say what follows what.
        reasons: of the changed keys.

    Raises:
        UnexplainedError: names all keys without a reason.
    """
    before, after = (leaves(OmegaConf.to_container(config)) for config in (real, rehearsed))
    differing = {
        key: (before.get(key, ABSENT), after.get(key, ABSENT))
        for key in [*before, *(key for key in after if key not in before)]
        if before.get(key, ABSENT) != after.get(key, ABSENT)
    }
    raw = OmegaConf.to_container(unresolved, resolve=False)
    found, unexplained = [], []
    for key, values in differing.items():
        if key in reasons:
            found.append(Difference(key, *values, why=reasons[key]))
        elif leader := next((name for name in references(raw, key) if name in differing), None):
            found.append(Difference(key, *values, follows=leader))
        else:
            unexplained.append(f"{key}: {values[0]} → {values[1]}")
    if unexplained:
        raise UnexplainedError("no reason is known for: " + "; ".join(unexplained))
    order = {key: place for place, key in enumerate(reasons)}
    return sorted(found, key=lambda difference: order.get(difference.key, len(order)))


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value; a list is one value, and so is an empty dictionary."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return found


def references(raw: Mapping[str, Any], key: str) -> Iterator[str]:
    """Keys that the value of `key` may be made of: those named in its own interpolation, or in a parent's."""
    parts = key.split(".")
    node: Any = raw
    for depth, part in enumerate(parts):
        node = node.get(part, "") if isinstance(node, Mapping) else ""
        if not isinstance(node, Mapping):
            yield from _named(str(node), parts[: depth + 1], parts[depth + 1 :])
            return


def _named(text: str, at: Sequence[str], rest: Sequence[str]) -> Iterator[str]:
    """Keys in an interpolation that stands at a key; `rest` is the way on below it."""
    if "${" not in text:
        return
    for word in _WORD.findall(text):
        dots = len(word) - len(word.lstrip("."))
        base = [*at[:-dots], word.lstrip(".")] if dots else [word]
        yield ".".join([*base, *rest])
        yield ".".join(base)


def lines(found: Sequence[Difference]) -> list[str]:
    """For the terminal: each change with its reason, and below it the keys that follow it."""
    texts = []
    for change in (difference for difference in found if difference.why):
        texts.append(f"{change.key}: {shown(change.real)} → {shown(change.rehearsed)}   ({change.why})")
        texts += [
            f"    {name}: {shown(other.real)} → {shown(other.rehearsed)}"
            for name, other in _followers(change.key, found)
        ]
    return texts


def _followers(key: str, found: Sequence[Difference]) -> Iterator[tuple[str, Difference]]:
    for other in found:
        if other.follows == key:
            yield other.key, other
            yield from _followers(other.key, found)


def shown(value: Any) -> str:
    """A value as YAML has it; a list of one value without its brackets is not a list any more, so it keeps them."""
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)
