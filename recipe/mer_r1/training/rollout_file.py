"""What ``trainer.rollout_data_dir`` keeps of a step beside verl's own columns, for ``replay`` and ``explain``.

Columns: ``tokens`` (of the response), ``signals`` and ``terms`` (name -> number, null where undefined), ``advantage``,
and, where the confidence pass ran, ``words`` (each with the masses it was read with).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from recipe.mer_r1.method.confidence import Calibration


class RolloutRows:
    """The rows of the step in hand, by key; nothing unless ``keep``."""

    def __init__(self, keep: bool):
        self._keep = keep
        self._rows: dict[str, dict[str, Any]] = {}

    def add(
        self,
        keys: Sequence[str],
        tokens: Sequence[int],
        signals: Mapping[str, torch.Tensor],
        result: Mapping[str, torch.Tensor] | None,
        calibrations: Mapping[str, Calibration],
    ) -> None:
        """One mini-batch.

        Args:
            keys: of its B responses.
            tokens: how many each response has.
            signals: ``(B,)`` each.
            result: of ``advantage.combine``; None where an estimator of verl's own ran.
            calibrations: by key, possibly none.
        """
        if not self._keep:
            return
        terms = {name: values.tolist() for name, values in (result or {}).items()}
        advantages = terms.pop("advantage", None)
        values_of = {name: values.tolist() for name, values in signals.items()}
        for index, key in enumerate(keys):
            row: dict[str, Any] = {"tokens": tokens[index], "signals": _at(values_of, index)}
            if advantages is not None:
                row |= {"terms": _at(terms, index), "advantage": advantages[index]}
            if key in calibrations:
                row["words"] = calibrations[key].words_json()
            self._rows[key] = row

    def columns(self, keys: Sequence[str]) -> dict[str, list[Any]]:
        """The columns for these responses, in their order."""
        rows = [self._rows[key] for key in keys]
        names = rows[0].keys() if rows else ()
        return {name: [row[name] for row in rows] for name in names}

    def clear(self) -> None:
        """Before the next step."""
        self._rows = {}


def _at(columns: Mapping[str, list[float]], index: int) -> dict[str, float | None]:
    return {name: None if math.isnan(values[index]) else values[index] for name, values in columns.items()}
