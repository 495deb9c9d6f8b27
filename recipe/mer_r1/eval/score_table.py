"""The means of an evaluation as text, for the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(scores: dict[str, dict[str, Any]]) -> str:
    """The means as text, a line a mode: what the official scorer gives first, as `report` prints it."""
    columns = {"ew_f": "EW F", "95": "95 % interval", "ew_r": "EW R", "ew_p": "EW P", "f1": "clip F1"}
    names = ("format", "num_words", "categories", "answer_unknown", "thought_empty")
    hit = any(mean["hit"] is not None for mean in scores.values())
    heads = [*(["HIT"] if hit else []), *columns.values(), *names, "clips", "samples"]
    widths = [max(len(head) + 2, 8) for head in heads]
    lines = [f"{'':13}" + "".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True))]
    for mode, mean in scores.items():
        cells = [_percent(mean["hit"])] if hit else []
        cells += [_percent(mean["ew_f"]), _range(mean["ew_f_ci95"]), *(_percent(mean[key]) for key in [*columns][2:])]
        cells += ["-" if mean[name] is None else f"{mean[name]:.3f}" for name in names]
        cells += [str(mean["n"]), str(mean["samples"])]
        lines.append(f"{mode:13}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
    lines += [
        f"{'HIT, ' if hit else ''}EW F, R, P: of the official scorer, in percent, as in `main_eval report`.",
        "clip F1: mean over clips of each clip's F1, which RL rewards.",
    ]
    if all(mean["ew_f"] is None for mean in scores.values()):
        lines.append("`main_eval sentiment` (WAF) or `main_eval judge` (MME-Emotion) scores this corpus.")
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _range(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else "–".join(f"{100 * end:.2f}" for end in ends)
