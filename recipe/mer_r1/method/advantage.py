"""The advantage as a list of named terms (Eq. 5 and 12), and what Proposition 1 says of a batch.

A term is a weighted sum of signals, normalised inside the group of responses to one prompt, times a weight; an
estimator is a list of terms (conf/experiment/*.yaml). Pure torch: importable and testable without verl.

Where this differs from verl's ``grpo``, whose (x - mean) / (std + eps) with the unbiased std is used: a group of one
response has advantage 0 (verl: its raw score), and a constant group exactly 0 (verl: 0 up to rounding / eps).

Undefined signals (NaN). A response without wrong words has no R⁻ (Eq. 11: E⁻ is empty). A term leaves out the
responses for which it is undefined, and gives them 0. In a sum of several signals an undefined one adds nothing, and
the sum is undefined only where all are: otherwise ablations B1 and B2, which add calibration to recall or precision
before normalising, would ignore the recall of exactly the responses that made no mistake.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

ADVANTAGE = "advantage"
VARIES = 1e-6
"""Standard deviation below which a reward counts as constant: the rewards are float32."""

CANCELS = 1e-4
"""Absolute dual advantage below which recall and precision of a response cancel: they are float32."""


class TermError(ValueError):
    """A list of terms that cannot be combined; the message says which term and why."""


@dataclass(frozen=True)
class Term:
    """``weight`` times the group-normalised weighted sum of ``signals``."""

    signals: dict[str, float]
    weight: float = 1.0
    least_spread: float = 0.0
    """In a group whose largest and smallest value differ by less, the term is 0; in units of the sum of signals. 0 is
    the paper's rule: any difference counts, and is normalised to the full advantage."""

    def __post_init__(self) -> None:
        if not self.signals:
            raise TermError("a term needs at least one signal")
        for name, value in {**self.signals, "weight": self.weight, "least_spread": self.least_spread}.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise TermError(f"term {self.name}: {name} is {value!r}, not a finite number")
        if self.least_spread < 0:
            raise TermError(f"term {self.name}: least_spread is {self.least_spread!r}; it must be 0 or more")

    @property
    def name(self) -> str:
        """``recall``, or ``recall+precision+format``."""
        return "+".join(self.signals)

    @classmethod
    def from_config(cls, terms: Sequence[Mapping[str, object]]) -> list[Term]:
        """Terms as an experiment's file has them: ``[{signals: {recall: 1.0}, weight: 1.0}, …]``.

        Raises:
            TermError: an unknown key, no signals, a number that is none, two terms of one name, or no term at all.
        """
        if not isinstance(terms, Sequence) or isinstance(terms, str):
            raise TermError(f"terms must be a list, [{{signals: {{recall: 1.0}}, weight: 1.0}}, …]; not {terms!r}")
        found = []
        for number, entry in enumerate(terms, 1):
            if not isinstance(entry, Mapping):
                raise TermError(f"term {number} is {entry!r}; a term must be {{signals: {{recall: 1.0}}, weight: 1.0}}")
            if unknown := sorted(set(entry) - {"signals", "weight"}):
                raise TermError(f"term {number} has unknown keys {unknown}; a term has signals and, optionally, weight")
            if not isinstance(signals := entry.get("signals") or {}, Mapping):
                raise TermError(f"term {number} has signals {signals!r}; each signal needs a factor: {{recall: 1.0}}")
            found.append(cls(dict(signals), entry.get("weight", 1.0)))
        _check_names(found)
        return found


def _check_names(terms: Sequence[Term]) -> None:
    names = [term.name for term in terms]
    if not names:
        raise TermError("no terms: the advantage would be 0 for every response")
    if len(set(names)) < len(names):
        raise TermError(
            f"two terms have the same signals: {names}; merge them into one term with the sum of their weights"
        )
    if ADVANTAGE in names:
        raise TermError(
            f"a signal cannot have the name {ADVANTAGE}: the result uses this name for the sum of the terms"
        )


def check_terms(terms: Sequence[Term], known: Collection[str]) -> None:
    """Raise TermError where a term names a signal that is not known, with those it may have meant."""
    for name in (name for term in terms for name in term.signals):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(sorted(known))}."
            raise TermError(f"unknown signal {name!r}: {hint}")


class Groups:
    """Responses by group, in any order and of any sizes."""

    def __init__(self, group: torch.Tensor | np.ndarray | Sequence[object]):
        labels = group.numpy(force=True) if isinstance(group, torch.Tensor) else np.asarray(group)
        _, inverse = np.unique(labels, return_inverse=True)
        self.index_B = torch.from_numpy(inverse.reshape(-1))
        self.size = int(self.index_B.max()) + 1 if len(self.index_B) else 0

    def sum(self, values_B: torch.Tensor) -> torch.Tensor:
        """Sum of each group, at every member ``(B,)``."""
        return torch.zeros(self.size, dtype=values_B.dtype).index_add(0, self.index_B, values_B)[self.index_B]

    def spread(self, values_B: torch.Tensor, kept_B: torch.Tensor) -> torch.Tensor:
        """Largest minus smallest kept value of each group, at every member; -inf where none is kept."""
        nothing = torch.full((self.size,), -torch.inf, dtype=values_B.dtype)
        top, low = (
            nothing.scatter_reduce(0, self.index_B, (sign * values_B).where(kept_B, -torch.inf), "amax")
            for sign in (1, -1)
        )
        return (top + low)[self.index_B]

    def varies(self, values_B: torch.Tensor, least: float = 0.0) -> torch.Tensor:
        """Whether the defined values of each group differ, by at least ``least``; at every member ``(B,)``."""
        spread_B = self.spread(values_B.nan_to_num(), ~values_B.isnan())
        return (spread_B > 0) & (spread_B >= least)  # a single defined member does not vary either

    def normalise(self, values_B: torch.Tensor, eps: float, least: float = 0.0) -> torch.Tensor:
        """``(x - mean) / (std + eps)`` inside each group over its defined members, float64; 0 for the others, and in
        groups whose values differ by less than ``least``."""
        kept_B = ~values_B.isnan()
        varies_B = kept_B & self.varies(values_B, least)
        count_B = self.sum(kept_B.double())
        values_B = values_B.where(kept_B, 0.0)
        mean_B = self.sum(values_B) / count_B.clamp(min=1)
        centred_B = (values_B - mean_B).where(kept_B, 0.0)
        std_B = (self.sum(centred_B**2) / (count_B - 1).clamp(min=1)).sqrt()
        return (centred_B / (std_B + eps)).where(varies_B, 0.0)


def term_values(signals: Mapping[str, torch.Tensor], term: Term) -> torch.Tensor:
    """The weighted sum of a term's signals ``(B,)``, float64, before it is normalised; NaN where all are undefined."""
    if missing := sorted(set(term.signals) - set(signals)):
        raise TermError(f"term {term.name} needs the signals {missing}; the batch has {', '.join(sorted(signals))}")
    columns = torch.stack([factor * signals[name].double().cpu() for name, factor in term.signals.items()])
    undefined_B = columns.isnan().all(0)
    return columns.nansum(0).masked_fill(undefined_B, torch.nan)


def combine(
    signals: Mapping[str, torch.Tensor],
    group: torch.Tensor | np.ndarray | Sequence[object],
    terms: Sequence[Term],
    eps: float = 1e-6,
) -> dict[str, torch.Tensor]:
    """The advantage of every response (Eq. 12) and the part each term has in it.

    Args:
        signals: ``(B,)`` each; NaN where undefined.
        group: ``(B,)``, which responses belong to one prompt; numbers or strings, in any order.
        terms: at least one.
        eps: added to the standard deviation.

    Returns:
        ``"advantage"`` and one entry a term by its name, ``(B,)`` each, in the signals' dtype (float32 for integers);
        the terms' entries sum to the advantage, and none is ever NaN.

    Raises:
        TermError: a signal is missing, infinite, or not of the batch's size.
    """
    _check_names(terms)
    groups = Groups(group)
    for name, values in signals.items():
        if values.shape != groups.index_B.shape:
            raise TermError(
                f"signal {name} has shape {tuple(values.shape)}, but the group has {tuple(groups.index_B.shape)}"
            )
        if values.isinf().any():
            raise TermError(f"signal {name} is infinite for response {int(values.isinf().nonzero()[0])}")
    parts = {
        term.name: term.weight * groups.normalise(term_values(signals, term), eps, term.least_spread) for term in terms
    }
    like = next(iter(signals.values()))
    dtype = like.dtype if like.is_floating_point() else torch.float32
    parts[ADVANTAGE] = torch.stack(list(parts.values())).sum(0)
    return {name: values.to(like.device, dtype) for name, values in parts.items()}


def whiten(advantage_B: torch.Tensor, tokens_B: torch.Tensor) -> torch.Tensor:
    """GDPO's last step: zero mean and unit variance over all tokens of the batch, as verl's ``masked_whiten``.

    Args:
        advantage_B: one value a response, which stands at each of its tokens.
        tokens_B: how many tokens that are; a response without any (one that verl adds to fill a batch) takes no part
            and gets 0.
    """
    values_B, weight_B = advantage_B.double(), tokens_B.to(advantage_B.device).double()
    total = weight_B.sum()
    if total < 2:
        return torch.zeros_like(advantage_B)
    centred_B = values_B - (weight_B * values_B).sum() / total
    variance = (weight_B * centred_B**2).sum() / (total - 1)
    return (centred_B / (variance + 1e-8).sqrt()).where(weight_B > 0, 0.0).to(advantage_B)


def describe(
    signals: Mapping[str, torch.Tensor],
    group: torch.Tensor | np.ndarray | Sequence[object],
    terms: Sequence[Term],
    result: Mapping[str, torch.Tensor],
) -> dict[str, float]:
    """Metrics of a batch: for each term its mean and std, the shares of undefined responses and of constant groups.

    With recall and precision also the shares of groups in which both are 0 for all responses (``zero_groups``), and in
    which both vary but their normalised values cancel for all (``cancelled_groups``): one response has more recall and
    less precision than the others, which are alike, as when it lists every category.
    """
    groups = Groups(group)
    ones = torch.ones_like(groups.index_B, dtype=torch.float64)
    share_of_group = 1 / groups.sum(ones)  # so that a sum over responses counts each group once
    metrics = {}
    for term in terms:
        values = term_values(signals, term)
        constant_B = ~groups.varies(values, term.least_spread)
        metrics[f"advantage/{term.name}/mean"] = result[term.name].mean().item()
        metrics[f"advantage/{term.name}/std"] = result[term.name].std(correction=0).item()
        metrics[f"advantage/{term.name}/undefined"] = values.isnan().double().mean().item()
        metrics[f"advantage/{term.name}/constant_groups"] = (constant_B * share_of_group).sum().item() / groups.size
    metrics["advantage/std"] = result["advantage"].std(correction=0).item()
    if {"recall", "precision"} <= set(signals):
        rewards = [signals[name].double().cpu() for name in ("recall", "precision")]
        nonzero_B = torch.stack([(values != 0).double() for values in rewards]).sum(0)
        left_B = torch.stack([groups.normalise(values, eps=0.0) for values in rewards]).sum(0).abs() > CANCELS
        cancelled_B = groups.varies(rewards[0]) & groups.varies(rewards[1]) & (groups.sum(left_B.double()) == 0)
        for name, where_B in (("zero", groups.sum(nonzero_B) == 0), ("cancelled", cancelled_B)):
            metrics[f"advantage/{name}_groups"] = (where_B * share_of_group).sum().item() / groups.size
    return metrics


def proposition_1(
    signals: Mapping[str, torch.Tensor], group: torch.Tensor | np.ndarray | Sequence[object]
) -> dict[str, float]:
    """Proposition 1 on a batch: τ, and how F1's advantage and the dual advantage follow recall and precision.

    Means over the groups in which recall, precision and F1 all vary. The correlations with ``f1`` are those with A_F,
    which is its standardisation. ``f1`` is the reward that trains: the mean of the wheels' F1 and not Eq. 13 of the
    means, so that the sign of Eq. 6 is what one expects, not what must be.

    Args:
        signals: at least ``recall``, ``precision`` and ``f1``, ``(B,)`` each.
        group: ``(B,)``.

    Returns:
        ``tau`` and its logarithm, ``log_tau``; ``corr_recall_f1`` and ``corr_precision_f1`` (Eq. 6); ``follows``, the
        share of groups in which recall has the larger of the two if and only if τ > 1, absent where they are equal
        or τ is 1; ``corr_recall_dual`` and ``corr_precision_dual`` (Eq. 7, always equal), which are absent where recall
        and precision cancel; nothing without such a group.
    """
    rewards = torch.stack([signals[name].double().cpu() for name in ("recall", "precision", "f1")])
    found: dict[str, list[float]] = {}
    index = Groups(group).index_B
    for member in index.unique():
        recall, precision, f1 = group_rewards = rewards[:, (index == member) & ~rewards.isnan().any(0)]
        if len(recall) < 2 or group_rewards.std(1).min() < VARIES:
            continue
        dual = (recall - recall.mean()) / recall.std() + (precision - precision.mean()) / precision.std()
        row = {"tau": (recall.std() / recall.mean() ** 2 / (precision.std() / precision.mean() ** 2)).item()}
        for name, reward in (("recall", recall), ("precision", precision)):
            row[f"corr_{name}_f1"] = _correlation(reward, f1)
            if dual.std() > VARIES:
                row[f"corr_{name}_dual"] = _correlation(reward, dual)
        row["log_tau"] = math.log(row["tau"])
        gap = row["corr_recall_f1"] - row["corr_precision_f1"]
        if min(abs(gap), abs(row["log_tau"])) > VARIES:
            row["follows"] = float((gap > 0) == (row["tau"] > 1))
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _correlation(left: torch.Tensor, right: torch.Tensor) -> float:
    return torch.corrcoef(torch.stack([left, right]))[0, 1].item()
