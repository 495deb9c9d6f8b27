"""The experiments' advantages as verl's estimators: one a file of conf/experiment/, under its ``estimator`` name.

verl hands an estimator rewards, mask and uids, not the components of a reward; the trainer holds those out in a context
(:func:`signals`) around verl's own advantage step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from verl.trainer.ppo.core_algos import register_adv_est
from verl.utils.torch_functional import masked_whiten

from recipe.mer_r1.advantage import combine, describe, proposition_1
from recipe.mer_r1.experiments import Estimator, estimator_of, load_estimators


@dataclass
class Report:
    """What an estimator leaves for the trainer; empty where one of verl's own ran."""

    result: dict[str, torch.Tensor] | None = None
    """Of :func:`recipe.mer_r1.advantage.combine`, after whitening if there is any."""
    metrics: dict[str, float] = field(default_factory=dict)


_BATCH: ContextVar[tuple[Mapping[str, torch.Tensor], Report]] = ContextVar("signals of the batch")


@contextmanager
def signals(values: Mapping[str, torch.Tensor]) -> Iterator[Report]:
    """Signals ``(B,)`` for the estimator that runs inside, in the order of its rows."""
    report = Report()
    token = _BATCH.set((values, report))
    try:
        yield report
    finally:
        _BATCH.reset(token)


def estimate(
    estimator: Estimator,
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    index: np.ndarray,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A verl estimator.

    Args:
        estimator: terms of the advantage (Eq. 12).
        token_level_rewards: ``(B, T)``; not used, the terms' signals are.
        response_mask: ``(B, T)``.
        index: ``(B,)``, the uid of each response's prompt.

    Returns:
        Advantages and returns, the same tensor ``(B, T)``.
    """
    try:
        values, report = _BATCH.get()
    except LookupError:
        raise RuntimeError(
            "the estimators of conf/experiment need the trainer that hands them their signals: set "
            "trainer.v1.trainer_mode to one of mer_r1_sync, mer_r1_colocate_async, mer_r1_separate_async."
        ) from None
    report.result = combine(values, index, estimator.terms)
    report.metrics = describe(values, index, estimator.terms, report.result)
    if {"recall", "precision"} <= set(values):
        known = ~values["recall"].isnan()
        found = proposition_1(values["recall"][known], values["precision"][known], np.asarray(index)[known.numpy()])
        report.metrics |= {f"proposition_1/{name}": value for name, value in found.items()}
    advantages_BT = report.result["advantage"].to(response_mask.device)[:, None] * response_mask
    if estimator.whiten:
        advantages_BT = masked_whiten(advantages_BT, response_mask) * response_mask
        report.result["advantage"] = advantages_BT.sum(-1) / response_mask.sum(-1).clamp(min=1)
    return advantages_BT, advantages_BT


def register(config: DictConfig) -> None:
    """Register every experiment with verl; the one that the run asks for with the run's own terms."""
    chosen = estimator_of(config)
    for name, estimator in load_estimators().items():
        if chosen is not None and name == config.algorithm.adv_estimator:
            estimator = chosen
        register_adv_est(name)(partial(estimate, estimator))
