"""Several kinds of runs in turns on one machine, and their ratios. Pure; used by loop.py and peers/ms_swift.py.

A kind of run is (tree, experiment), for example ("d17218f", "mer_r1").
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Kind = tuple[str, str]
Result = dict[str, Any]
"""Of one run, as loop_run.watched returns it."""
NUMBERS = ("startup_seconds", "first_step_done_seconds", "cpu_seconds_per_step", "peak_rss_gb", "pss_gb")
"""Numbers of a run that are compared beside its phases."""


def plan(trees: Sequence[str], experiments: Sequence[str], turns: int) -> list[list[Kind]]:
    """The runs of each turn. Every other turn is reversed (A B, B A, …): a slow drift of the machine then cancels."""
    kinds = [(tree, experiment) for experiment in experiments for tree in trees]
    return [kinds[::-1] if turn % 2 else kinds for turn in range(turns)]


def take(
    runs: Sequence[Sequence[Kind]], run: Callable[[Kind, int], dict[str, Any]]
) -> dict[Kind, list[dict[str, Any]]]:
    """Run everything in order; the results of each kind, by turn."""
    results: dict[Kind, list[dict[str, Any]]] = {}
    for turn, kinds in enumerate(runs):
        for kind in kinds:
            results.setdefault(kind, []).append(run(kind, turn))
    return results


def numbers(result: Mapping[str, Any]) -> dict[str, float]:
    """All compared numbers of a run under flat names; a number that is not known is left out."""
    flat = {**result["median_seconds"], **{name: result.get(name) for name in NUMBERS}}
    return {name: value for name, value in flat.items() if value is not None}


def summary(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each number of a kind of run: the median over the turns, the smallest and the largest."""
    return _spread([numbers(result) for result in results])


def ratios(above: Sequence[Mapping[str, Any]], below: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each number that both have: above / below within each turn, as median, smallest and largest over the turns."""
    turns = [(numbers(over), numbers(under)) for over, under in zip(above, below, strict=True)]
    return _spread(
        [
            {name: upper / under[name] for name, upper in over.items() if under.get(name, 0.0) > 0}
            for over, under in turns
        ]
    )


def _spread(turns: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    found: dict[str, list[float]] = {}
    for turn in turns:
        for name, value in turn.items():
            found.setdefault(name, []).append(value)
    return {
        name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
        for name, values in found.items()
    }


def compared(results: Mapping[Kind, Sequence[Mapping[str, Any]]], pairs: Sequence[tuple[Kind, Kind]]) -> dict[str, Any]:
    """The result as JSON: the numbers of each kind, the ratios of pairs of kinds, and all runs."""
    return {
        "runs": [
            {"tree": tree, "experiment": experiment, "turn": turn, **result}
            for (tree, experiment), of_kind in results.items()
            for turn, result in enumerate(of_kind)
        ],
        "numbers": [
            {"tree": tree, "experiment": experiment, **summary(of_kind)}
            for (tree, experiment), of_kind in results.items()
        ],
        "ratios": [
            {"above": _name(above), "below": _name(below), **ratios(results[above], results[below])}
            for above, below in pairs
        ],
    }


def pairs(trees: Sequence[str], experiments: Sequence[str]) -> list[tuple[Kind, Kind]]:
    """What is compared: for each experiment, the first tree above the last; in the last tree, each experiment above the
    first experiment."""
    new = trees[-1]
    between = [((trees[0], experiment), (new, experiment)) for experiment in experiments if len(trees) > 1]
    return between + [((new, experiment), (new, experiments[0])) for experiment in experiments[1:]]


def table(result: Mapping[str, Any]) -> str:
    """The result of :func:`compared` as text: a column for each kind of run and for each ratio."""
    columns = {_name((entry["tree"], entry["experiment"])): entry for entry in result["numbers"]}
    columns |= {f"{entry['above']} / {entry['below']}": entry for entry in result["ratios"]}
    names = [name for entry in columns.values() for name, cell in entry.items() if isinstance(cell, Mapping)]
    lines = [["", *columns]]
    lines += [[name, *(_cell(entry.get(name)) for entry in columns.values())] for name in dict.fromkeys(names)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(cells))
        for cells in (list(zip(line, widths, strict=True)) for line in lines)
    )


def _name(kind: Kind) -> str:
    return " ".join(kind)


def _cell(found: Mapping[str, float] | None) -> str:
    """The median, with the range where the turns differ."""
    if found is None:
        return "–"
    middle, low, high = (f"{found[name]:.2f}" for name in ("median", "min", "max"))
    return middle if low == high else f"{middle} ({low}–{high})"
