"""Signals of a batch: what the reward manager and the confidence pass found, one value a response, for the terms.

A signal is a tensor ``(B,)``; NaN stands for undefined (Eq. 11 where E⁺ or E⁻ is empty, and the responses that verl
adds to fill a batch).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

REWARD_SIGNALS = ("recall", "precision", "f1", "format", "f1_first")
CONFIDENCE_SIGNALS = ("calib_pos", "calib_neg", "calib_pos_word", "calib_neg_word")
SIGNALS = REWARD_SIGNALS + CONFIDENCE_SIGNALS


def stack(rows: Sequence[Mapping[str, Any] | None], names: Iterable[str]) -> dict[str, torch.Tensor]:
    """``(B,)`` float32 a name, from one mapping a response; NaN where there is none."""
    missing = float("nan")
    return {
        name: torch.tensor([missing if row is None else float(row[name]) for row in rows], dtype=torch.float32)
        for name in names
    }


def shuffle_in_groups(
    signals: Mapping[str, torch.Tensor], keys: Sequence[str], group: Sequence[str], seed: Sequence[int]
) -> dict[str, torch.Tensor]:
    """Each signal's values permuted among the responses of a group for which it is defined; a control.

    The values of a group stay, and so do the places of NaN; which response has which value is drawn anew, uniformly and
    for each signal alone. So a shuffled signal is uncorrelated with the original one, as a mean over draws.

    Args:
        signals: ``(B,)`` each.
        keys: of the B responses: rows in another order get the same values.
        group: of each response.
        seed: e.g. the run's seed and the step.
    """
    draw = np.random.default_rng(list(seed))
    members: dict[str, list[int]] = {}
    for row in sorted(range(len(keys)), key=keys.__getitem__):
        members.setdefault(group[row], []).append(row)
    found = {}
    for name in sorted(signals):
        values = signals[name].clone()
        for rows in members.values():
            defined = [row for row in rows if not values[row].isnan()]
            values[defined] = values[[defined[place] for place in draw.permutation(len(defined))]]
        found[name] = values
    return found


def category_metrics(truths: Iterable[str], predictions: Iterable[str]) -> dict[str, float]:
    """Recall and precision of each category over some responses.

    Args:
        truths: the categories of a response's labels, ``"w1/happy w2/happy …"``.
        predictions: those of its answer.

    Returns:
        ``{"w1/happy/recall": …, "w1/happy/precision": …}``; a category that was never true has no recall, one that was
        never answered no precision. A wheel on which a response's labels map nowhere does not count for it.
    """
    true, said, hits = Counter(), Counter(), Counter()
    for truth, prediction in zip(truths, predictions, strict=True):
        gold, pred = set(truth.split()), set(prediction.split())
        wheels = {name.split("/")[0] for name in gold}
        pred = {name for name in pred if name.split("/")[0] in wheels}
        true.update(gold)
        said.update(pred)
        hits.update(gold & pred)
    recall = {f"{name}/recall": hits[name] / count for name, count in true.items()}
    precision = {f"{name}/precision": hits[name] / count for name, count in said.items()}
    return dict(sorted((recall | precision).items()))


def category_counts(truths: Iterable[str], predictions: Iterable[str]) -> dict[str, float]:
    """How many categories an answer names, as a mean over the wheels on which its labels map.

    Args:
        truths: the categories of a response's labels, ``"w1/happy w2/happy …"``.
        predictions: those of its answer.

    Returns:
        ``categories`` and ``categories_max`` of the answers, over responses, and ``categories_labels``, the mean of
        their labels; nothing where no labels map.
    """
    said, true = [], []
    for truth, prediction in zip(truths, predictions, strict=True):
        gold = set(truth.split())
        if wheels := {name.split("/")[0] for name in gold}:
            said.append(sum(name.split("/")[0] in wheels for name in set(prediction.split())) / len(wheels))
            true.append(len(gold) / len(wheels))
    if not said:
        return {}
    return {
        "categories": float(np.mean(said)),
        "categories_max": max(said),
        "categories_labels": float(np.mean(true)),
    }
