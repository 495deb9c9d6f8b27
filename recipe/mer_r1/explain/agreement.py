"""How much the advantages of two experiments differ on the same responses.

Two experiments whose advantages correlate by .998 train nearly the same model: no number of test clips can tell them
apart. A batch of a short run says so before a long one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from recipe.mer_r1.method.advantage import ADVANTAGE

NO_SIGNAL = 1e-3
"""An advantage at most this far from 0 moves nothing, and has no sign."""


@dataclass(frozen=True)
class Agreement:
    """An experiment beside a reference, over all responses of all batches.

    Attributes:
        std: standard deviation of the advantage.
        correlation: Pearson's, with the reference's advantage; None where one of both is constant.
        opposite: share of the responses where both have a sign, and not the same.
        without: share of groups in which no advantage differs from 0.
        terms: standard deviation of each term, weight included.
    """

    std: float
    correlation: float | None
    opposite: float | None
    without: float
    terms: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def agreement(
    results: Sequence[dict[str, torch.Tensor]],
    reference: Sequence[dict[str, torch.Tensor]],
    groups: Sequence[list[str]],
) -> Agreement:
    """Compare two experiments.

    Args:
        results, reference: terms and advantage of each batch, (N,) each, as ``advantage.combine`` gives them.
        groups: of each batch, the prompt of each response.
    """
    parts = {name: _joined(results, name) for name in results[0]}
    own, other = parts.pop(ADVANTAGE), _joined(reference, ADVANTAGE)
    signed = (np.abs(own) > NO_SIGNAL) & (np.abs(other) > NO_SIGNAL)
    largest: dict[tuple[int, str], float] = {}
    places = [(number, group) for number, labels in enumerate(groups) for group in labels]
    for place, value in zip(places, np.abs(own), strict=True):
        largest[place] = max(largest.get(place, 0.0), float(value))
    return Agreement(
        std=float(own.std()),
        correlation=float(np.corrcoef(own, other)[0, 1]) if own.std() > 0 and other.std() > 0 else None,
        opposite=float((own[signed] * other[signed] < 0).mean()) if signed.any() else None,
        without=sum(value <= NO_SIGNAL for value in largest.values()) / len(largest),
        terms={name: float(values.std()) for name, values in parts.items()},
    )


def _joined(results: Sequence[dict[str, torch.Tensor]], name: str) -> np.ndarray:
    return torch.cat([result[name] for result in results]).double().numpy()
