"""What a demo found, in words. A sentence claims a difference only where its 95 % interval excludes 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recipe.mer_r1.eval.compare.differences import Difference
from recipe.mer_r1.eval.compare.wording import points
from recipe.mer_r1.pages.tables import percent

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
        _words(summary),
    ]


def improves(summary: Mapping[str, Any], row: str) -> bool:
    """Whether RL improves sampled slow answers to held-out clips: the interval of the paired EW F is above 0."""
    return _of(summary, f"{row} - sft", "slow_sampled").side > 0


def _of(summary: Mapping[str, Any], pair: str, kind: str, score: str = "F") -> Difference:
    return Difference(**summary["differences"][pair][kind][score])


def _gain(summary: Mapping[str, Any], row: str, title: str) -> str:
    sampled, greedy = (_of(summary, f"{row} - sft", mode) for mode in ("slow_sampled", "slow"))
    verb = {1: "improves", -1: "makes worse", 0: "does not change beyond chance"}[sampled.side]
    return (
        f"RL with {title} {verb} the sampled slow answers to test clips: EW F {percent(sampled.second)} → "
        f"{percent(sampled.first)}, {points(sampled)}; greedy {points(greedy)}."
    )


def _comparison(summary: Mapping[str, Any], mode: str, kind: str) -> str:
    found = _of(summary, "mer_r1 - baseline", mode)
    verb = {1: "is ahead of", -1: "is behind", 0: "cannot be told from"}[found.side]
    return f"MER-R1 {verb} its baseline in the EW F of {kind} slow answers: {points(found)}."


def _paradox(summary: Mapping[str, Any]) -> str:
    """Finding 1 of the paper: fast has more recall, slow more precision."""
    recall, precision = (_of(summary, "sft: fast - slow", "sampled", score) for score in "RP")
    verdict = {
        (True, True): "is here",
        (True, False): "is here in recall alone",
        (False, True): "is here in precision alone",
        (False, False): "is not here",
    }[recall.side > 0, precision.side < 0]
    greedy = [points(_of(summary, "sft: fast - slow", "greedy", score)) for score in "RP"]
    return (
        f"After SFT the paper's thinking paradox {verdict}: sampled fast − slow is {points(recall)} in recall (EW R) "
        f"and {points(precision)} in precision (EW P); greedy {greedy[0]} and {greedy[1]}."
    )


def _after(summary: Mapping[str, Any], row: str, title: str) -> str:
    sampled, greedy = (_of(summary, f"{row}: fast - slow", kind) for kind in ("sampled", "greedy"))
    verb = {1: "is still better than", -1: "is worse than", 0: "cannot be told from"}[sampled.side]
    figures = f"fast − slow {points(sampled)}; greedy {points(greedy)}"
    return f"After RL with {title}, sampled fast {verb} slow in EW F: {figures}."


def _format(summary: Mapping[str, Any]) -> str:
    values = {row: summary["models"][row]["slow_sampled"]["format"] for row in _ROWS}
    verdict = "is kept" if min(values.values()) >= FORMAT_WANTED else "is NOT kept"
    return (
        f"The form of sampled slow answers {verdict} (at least {FORMAT_WANTED}): baseline {values['baseline']:.2f}, "
        f"MER-R1 {values['mer_r1']:.2f}."
    )


def _words(summary: Mapping[str, Any]) -> str:
    """What is left of the differences where the form is right."""
    found = {pair: points(Difference(**values)) for pair, values in summary["well_formed"].items()}
    return (
        f"Of well-formed sampled slow answers alone, clip F1 changes by {found['baseline - sft']} with the baseline, "
        f"by {found['mer_r1 - sft']} with MER-R1; MER-R1 − baseline {found['mer_r1 - baseline']}."
    )
