"""The experiments' advantages as verl's estimators: one a file of conf/experiment/, under its ``estimator`` name.

verl hands an estimator rewards, mask and uids, not the components of a reward; the trainer holds those out in a context
(:func:`signals`) around verl's own advantage step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from verl.trainer.ppo.core_algos import register_adv_est

from recipe.mer_r1.method.advantage import ADVANTAGE, combine, describe, proposition_1, whiten
from recipe.mer_r1.method.experiments import Estimator, estimator_of, load_estimators


@dataclass
class Report:
    """What an estimator leaves for the trainer; empty where one of verl's own ran."""

    result: dict[str, torch.Tensor] | None = None
    """Of :func:`recipe.mer_r1.method.advantage.combine`, after whitening if there is any."""
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
            "the estimators of conf/experiment need a trainer that passes them the signals: set "
            "trainer.v1.trainer_mode to one of mer_r1_sync, mer_r1_colocate_async, mer_r1_separate_async."
        ) from None
    result = combine(values, index, estimator.terms)
    # Responses that verl adds to fill a batch have no signal at all, and no place in the metrics.
    real_B = ~torch.stack([values_B.isnan() for values_B in values.values()]).all(0)
    taken, group = {name: values_B[real_B] for name, values_B in values.items()}, np.asarray(index)[real_B.numpy()]
    report.metrics = describe(taken, group, estimator.terms, {name: part[real_B] for name, part in result.items()})
    if {"recall", "precision", "f1"} <= set(taken):
        report.metrics |= {f"proposition_1/{name}": value for name, value in proposition_1(taken, group).items()}
    if estimator.whiten:
        result[ADVANTAGE] = whiten(result[ADVANTAGE], response_mask.sum(-1))
    report.result = result
    advantages_BT = result[ADVANTAGE].to(response_mask.device)[:, None] * response_mask
    return advantages_BT, advantages_BT


_ESTIMATORS: dict[str, Estimator] = {}


@cache  # verl refuses a second function under a name that it holds
def _function(name: str) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    return lambda **inputs: estimate(_ESTIMATORS[name], **inputs)


def register(config: DictConfig) -> None:
    """Register every experiment with verl; the one that the run asks for with the run's own terms.

    Can be called again: the terms of the last call count.
    """
    _ESTIMATORS.update(load_estimators())
    chosen = estimator_of(config)
    if chosen is not None:
        _ESTIMATORS[config.algorithm.adv_estimator] = chosen
    for name in _ESTIMATORS:
        register_adv_est(name)(_function(name))
