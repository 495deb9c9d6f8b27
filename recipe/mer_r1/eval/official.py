"""The scores of the official scorer for the lines of an evaluation, as `main_eval run` prints and keeps them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from recipe.mer_r1.eval.corpora import task_of
from recipe.mer_r1.eval.records import by_clip
from recipe.mer_r1.method.metrics import ew_scores, hit_rate
from recipe.mer_r1.method.wheel import EmotionWheels

DRAWS = 1000
_EW = {"F": "ew_f", "R": "ew_r", "P": "ew_p"}
NAMES = ("hit", *_EW.values())


def official(lines: Iterable[Mapping[str, Any]], corpus: str, wheels: EmotionWheels) -> dict[str, Any]:
    """EW F, R and P and, for the basic emotions, HIT, in 0..1, each with its 95 % interval over clips (`_ci95`).

    They equal those of `main_eval report`. None: undefined, or not of this corpus (other commands score sentiment and
    MME-Emotion).
    """
    found: dict[str, Any] = {key: None for name in NAMES for key in (name, f"{name}_ci95")}
    clips, task = by_clip(lines), task_of(corpus)
    if not clips or task in ("waf", "judge") or len({len(clip) for clip in clips}) > 1:
        return found
    gold = {str(clip[0]["index"]): clip[0]["labels"] for clip in clips}
    words = [{str(line["index"]): line["words"] for line in part} for part in zip(*clips, strict=True)]
    scores = ew_scores(gold, words, wheels, bootstrap=DRAWS)
    found |= {name: _number(scores[key]) for key, name in _EW.items()}
    found |= {f"{name}_ci95": _interval(scores["ci95"][key]) for key, name in _EW.items()}
    if task == "hit" and all(len(labels) == 1 for labels in gold.values()):
        hits = hit_rate(gold, words, wheels, bootstrap=DRAWS)
        found |= {"hit": _number(hits["hit"]), "hit_ci95": _interval(hits["ci95"]["hit"])}
    return found


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _interval(ends: list[float]) -> list[float] | None:
    return None if any(map(math.isnan, ends)) else ends
