"""The results of run.sh as Markdown: `python table.py OUT`. Standard library only."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

PARTS = ("cores", "cost", "recipe")


def load(out: Path) -> dict[str, list[dict[str, Any]]]:
    """Records by part, in the order in which they were written."""
    found = {}
    for part in PARTS:
        files = sorted((out / part).glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        found[part] = [json.loads(file.read_text()) for file in files]
    return found


def table(records: dict[str, list[dict[str, Any]]]) -> str:
    """One section for each part that has records, with the machine and the command above it."""
    sections = {"cores": cores, "cost": cost, "recipe": recipe}
    text = []
    for part, rows in records.items():
        if rows:
            text += [f"## {part}", "", _made_by(part, rows), "", *sections[part](rows), *_errors(rows), ""]
    return "\n".join(text) if text else "No results yet."


def cores(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Gaps and their limits. A `seen-` case passes when its planted fault is over a limit."""
    body = []
    for row in rows:
        values = row["values"]
        names = ("max", "limit_max", "mean", "limit_mean")
        body.append([row["name"], *(_number(values.get(name)) for name in names), row["status"]])
    return _grid(["case", "max gap", "limit", "mean gap", "limit", "result"], body)


def cost(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Times, ratios, floors and peak memory of every way; then the kernels."""
    body, kernels, rates = [], [], []
    for row in rows:
        values, size = row["values"], row["settings"]
        where = f"{size['shape']}, P {size['prompt']}, R {size['response']}, G {size['responses']}"
        for way, seconds in values.get("median_seconds", {}).items():
            ratio = values.get("ratio", {}).get(way)
            peak = (values.get("peak_gb") or {}).get(way)
            body.append(
                [
                    *(where, way, _number(seconds), _number(ratio), _number(values["floor_seconds"][way])),
                    *(_number(values["of_floor"][way]), _number(peak), row["status"]),
                ]
            )
        if "tflops_by_product" in values:
            each = values["tflops_by_product"]
            rates.append(
                [where, _number(values["tflops"]), ", ".join(f"{name} {_number(v)}" for name, v in each.items())]
            )
        for kernel in values.get("top", [])[:6]:
            name = kernel["kernel"].replace("|", "\\|")
            kernels.append(
                [where, f"`{name[:70]}`", _number(kernel["ms"]), f"{kernel['share']:.0%}", str(kernel["calls"])]
            )
    text = _grid(["size", "way", "median s", "ratio", "floor s", "floor / median", "peak GB", "result"], body)
    text += ["", *_grid(["size", "matmul TFLOP/s", "each"], rates)] if rates else []
    return text + (["", *_grid(["size", "kernel of `one`", "ms", "share", "calls"], kernels)] if kernels else [])


def recipe(rows: Sequence[dict[str, Any]]) -> list[str]:
    """How far the recipe got, and rollout against actor where it trained."""
    body = []
    for row in rows:
        values = row["values"]
        largest = [value for value in values.get("parity_max", []) if value is not None]
        means = [value for value in values.get("parity_mean", []) if value is not None]
        steps = str(values["steps"]) if "steps" in values else ""
        mean = _number(sum(means) / len(means)) if means else ""
        top = _number(max(largest)) if largest else ""
        body.append([row["name"], row["status"], _number(row["seconds"]), steps, top, mean])
    return _grid(["step", "result", "seconds", "RL steps", "log-prob gap, max", "mean"], body)


def _made_by(part: str, rows: Sequence[dict[str, Any]]) -> str:
    devices = sorted({row["settings"]["device"] for row in rows})
    versions = sorted({", ".join(f"{name} {value}" for name, value in row["machine"].items()) for row in rows})
    return f"`benchmarks/gpu/run.sh {part}` on {', '.join(devices)}; {'; '.join(versions)}."


def _errors(rows: Iterable[dict[str, Any]]) -> list[str]:
    text = []
    for row in rows:
        if row["error"]:
            text += ["", f"**{row['name']}**: {row['status']}", "", "```", row["error"].strip(), "```"]
    return text


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _grid(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: table.py OUT")
    print(table(load(Path(sys.argv[1]))))
