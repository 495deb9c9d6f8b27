"""What a demo found, in words. A sentence claims a difference only where its 95 % interval excludes 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recipe.mer_r1.demo.differences import number, sign

FORMAT_WANTED = 0.9
_ROWS = {"baseline": "the baseline", "mer_r1": "MER-R1"}
_KINDS = {"slow_sampled": "sampled", "slow": "greedy"}


def findings(summary: Mapping[str, Any]) -> list[str]:
    """One sentence per question: does RL help, does MER-R1 beat its baseline, does fast beat slow."""
    return [
        *(_gain(summary, row, title) for row, title in _ROWS.items()),
        *(_comparison(summary, mode, kind) for mode, kind in _KINDS.items()),
        _paradox(summary),
        *(_after(summary, row, title) for row, title in _ROWS.items()),
        _format(summary),
    ]


def improves(summary: Mapping[str, Any], row: str) -> bool:
    """Whether RL improves sampled slow answers to held-out clips: the interval of the paired F1 is above 0."""
    return sign(summary["differences"][f"{row} - sft"]["slow_sampled"]["f1"]) > 0


def _gain(summary: Mapping[str, Any], row: str, title: str) -> str:
    found = summary["differences"][f"{row} - sft"]
    sampled, greedy = found["slow_sampled"]["f1"], found["slow"]["f1"]
    verb = {1: "improves", -1: "makes worse", 0: "does not change beyond chance"}[sign(sampled)]
    before, after = (summary["models"][model]["slow_sampled"]["f1"] for model in ("sft", row))
    return (
        f"RL with {title} {verb} the sampled slow answers to test clips: F1 {_plain(before)} → {_plain(after)}, "
        f"{number(sampled)}; greedy {number(greedy)}."
    )


def _comparison(summary: Mapping[str, Any], mode: str, kind: str) -> str:
    found = summary["differences"]["mer_r1 - baseline"][mode]["f1"]
    verb = {1: "is ahead of", -1: "is behind", 0: "cannot be told from"}[sign(found)]
    return f"MER-R1 {verb} its baseline in the F1 of {kind} slow answers: {number(found)}."


def _paradox(summary: Mapping[str, Any]) -> str:
    """Finding 1 of the paper: fast has more recall, slow more precision."""
    found = summary["differences"]["sft: fast - slow"]["greedy"]
    more = sign(found["recall"]) > 0, sign(found["precision"]) < 0
    verdict = {
        (True, True): "is here",
        (True, False): "is here in recall alone",
        (False, True): "is here in precision alone",
    }
    return (
        f"After SFT the paper's thinking paradox {verdict.get(more, 'is not here')}: greedy fast − slow is "
        f"{number(found['recall'])} in recall and {number(found['precision'])} in precision."
    )


def _after(summary: Mapping[str, Any], row: str, title: str) -> str:
    found = summary["differences"][f"{row}: fast - slow"]["greedy"]["f1"]
    verb = {1: "is still better than", -1: "is worse than", 0: "cannot be told from"}[sign(found)]
    return f"After RL with {title}, greedy fast {verb} slow in F1: fast − slow {number(found)}."


def _format(summary: Mapping[str, Any]) -> str:
    values = {row: summary["models"][row]["slow_sampled"]["format"] for row in _ROWS}
    verdict = "is kept" if min(values.values()) >= FORMAT_WANTED else "is NOT kept"
    return (
        f"The form of sampled slow answers {verdict} (at least {FORMAT_WANTED}): baseline {values['baseline']:.2f}, "
        f"MER-R1 {values['mer_r1']:.2f}."
    )


def _plain(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")
