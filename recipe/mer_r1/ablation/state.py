"""What has been done of a table: finished, failed, interrupted, made with other settings, or missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recipe.mer_r1.ablation import record
from recipe.mer_r1.ablation.plan import Run
from recipe.mer_r1.ablation.record import FAILED, FINISHED, Record
from recipe.mer_r1.pipeline import stamps
from recipe.mer_r1.pipeline.stage_run import Places

STALE, INTERRUPTED, MISSING = "other settings", "interrupted", "missing"


def state_of(run: Run, results: Path, out: Path) -> tuple[str, str]:
    """The state of a run, and a word on it.

    Args:
        results: folder of the records, which count more than the folder of the runs: that one may be elsewhere.
        out: folder of the runs.
    """
    found = record.read(record.path_of(results, run.name))
    if found is not None and found.state == FINISHED:
        if found.settings_sha256 == run.settings_sha256:
            return FINISHED, _f1(found)
        return STALE, "; ".join(differing(found.settings, run.settings))
    begun = [stage for stage in run.stages if stamps.read(Places(out).stamp(stage)) is not None]
    if found is not None:
        return FAILED, found.reason
    return (INTERRUPTED, f"at {begun[-1].name}") if begun else (MISSING, "")


def _f1(found: Record) -> str:
    forms = found.metrics.forms if found.metrics else {}
    return "  ".join(f"{mode} F1 {forms[mode].f1:.3f}" for mode in forms)


def differing(there: Mapping[str, Any], here: Mapping[str, Any], limit: int = 4) -> list[str]:
    """Keys of two settings whose values differ, with both values."""
    one, other = dict(_flat(there)), dict(_flat(here))
    keys = [key for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key)]
    shown = [f"{key}: {one.get(key)} there, {other.get(key)} here" for key in keys[:limit]]
    return shown + ([f"and {len(keys) - limit} more"] if len(keys) > limit else [])


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
