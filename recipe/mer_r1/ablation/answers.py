"""The paper's questions, each answered in a sentence by what the records show, with the differences that decide.

Sampled answers decide. RL samples and trains these, and four answers per clip have less noise than one. The same
difference of greedy answers is given beside each.
"""

from __future__ import annotations

import math
import statistics as stats
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from recipe.mer_r1.ablation.claims import NO, NOT_RUN, SLOW, UNDECIDED, YES, Claim, between, claim, figure, verdict
from recipe.mer_r1.ablation.record import WELL_FORMED
from recipe.mer_r1.ablation.results import Results
from recipe.mer_r1.ablation.table import Table
from recipe.mer_r1.method.bootstrap import Interval, interval

_SHUFFLE = "mer_r1.confidence.shuffle=true"


@dataclass(frozen=True)
class Answer:
    """A question, its verdict, a sentence, and the claims that decide, if there are several."""

    question: str
    verdict: str
    text: str
    claims: tuple[Claim, ...] = ()


def answers(results: Results) -> list[Answer]:
    """All of them, in the order of the paper's argument."""
    return [
        _slow_loses(results),
        _slow_wins(results, "baseline", "After RL with the baseline, are slow answers better than fast ones?"),
        _slow_wins(results, "mer_r1", "After MER-R1, are slow answers better than fast ones?"),
        _ahead(results),
        _order(results),
        _falls_behind(results),
        _lambda_cali(results),
        _content(results),
        _proposition_1(results),
        _r_neg(results),
    ]


def _slow_minus_fast(results: Results, row: str, expected: int = 1) -> Claim:
    return claim(results, "slow − fast", results.gap(row, sampled=True), results.gap(row), expected)


def _rest(one: Claim) -> str:
    """What would decide the claim, and the greedy answers."""
    return (f"; {one.decides}" if one.decides else "") + (f"; greedy {figure(one.greedy)}" if one.greedy else "")


def _slow_loses(results: Results) -> Answer:
    question = "Does slow thinking lose to fast after SFT?"
    one = _slow_minus_fast(results, "sft", expected=-1)
    if one.found is None:
        return Answer(question, NOT_RUN, "The SFT models are not evaluated yet.")
    recall, precision = (results.gap("sft", sampled=True, score=score) for score in ("recall", "precision"))
    of_scores = f"; recall {figure(recall)}; precision {figure(precision)}" if recall and precision else ""
    start = {
        YES: "Sampled slow answers of the SFT models have a lower F1 than fast ones",
        NO: "Sampled slow answers of the SFT models have a higher F1 than fast ones",
        UNDECIDED: "Sampled slow and fast answers of the SFT models cannot be told apart by F1",
    }[one.verdict]
    return Answer(question, one.verdict, f"{start}: {one.text}{of_scores}{_rest(one)}.")


def _slow_wins(results: Results, row: str, question: str) -> Answer:
    one = _slow_minus_fast(results, row)
    if one.found is None:
        return Answer(question, NOT_RUN, f"{row} is not run yet.")
    start = {
        YES: f"After {row}, sampled slow answers have a higher F1 than fast ones",
        NO: f"After {row}, sampled slow answers still have a lower F1 than fast ones",
        UNDECIDED: f"After {row}, sampled slow and fast answers cannot be told apart by F1",
    }[one.verdict]
    before = results.gap("sft", sampled=True)
    change = f"; before RL {figure(before)}" if before else ""
    return Answer(question, one.verdict, f"{start}: {one.text}{change}{_rest(one)}.")


def _ahead(results: Results) -> Answer:
    question = "Is MER-R1 ahead of the baseline?"
    one = between(results, "mer_r1", "baseline")
    start = {
        YES: "Sampled slow answers have a higher F1 after MER-R1 than after the baseline",
        NO: "Sampled slow answers have a lower F1 after MER-R1 than after the baseline",
        UNDECIDED: "Sampled slow answers after MER-R1 and after the baseline cannot be told apart by F1",
        NOT_RUN: "They have not run on the same seed yet",
    }[one.verdict]
    words = results.difference("mer_r1", "baseline", SLOW, WELL_FORMED)
    formed = f" Well-formed answers alone: {figure(words)}." if words else ""
    return Answer(question, one.verdict, f"{start}: {one.text}{_rest(one)}.{formed}")


def _all_hold(question: str, claims: Sequence[Claim], meanings: dict[str, str]) -> Answer:
    """Several claims that must all hold; `meanings` says what each verdict of them together means."""
    verdicts = [one.verdict for one in claims]
    found = next((one for one in (NO, NOT_RUN, UNDECIDED) if one in verdicts), YES)
    return Answer(question, found, f"{meanings[found]} by F1 of sampled slow answers.", tuple(claims))


def _order(results: Results) -> Answer:
    ladder = ["mer_r1", "rd_ad", "rd", "baseline"]
    return _all_hold(
        "Is Ex3 (mer_r1) > Ex2 (rd_ad) > Ex1 (rd) > baseline?",
        [between(results, row, other) for row, other in pairwise(ladder)],
        {
            YES: "Each is ahead of the next",
            NO: "At least one is behind the next",
            UNDECIDED: "At least one pair cannot be told apart",
            NOT_RUN: "At least one pair is not run yet",
        },
    )


def _falls_behind(results: Results) -> Answer:
    return _all_hold(
        "Do B1 and B2 fall behind MER-R1?",
        [between(results, row, "mer_r1", expected=-1) for row in ("b1", "b2")],
        {
            YES: "Both are behind",
            NO: "At least one is ahead",
            UNDECIDED: "At least one cannot be told from MER-R1",
            NOT_RUN: "At least one is not run yet",
        },
    )


def _lambda_cali(results: Results) -> Answer:
    """Against λ = 0, which is rd_ad."""
    rows = {"mer_r1": "0.1"} | _values_of(results.table, "experiment.lambda_cali")
    values = sorted(rows.items(), key=lambda row: float(row[1]))
    claims = tuple(between(results, row, "rd_ad", name=f"λ = {value} ({row}) − λ = 0 (rd_ad)") for row, value in values)
    effects = [value for (_, value), one in zip(values, claims, strict=True) if one.found and one.found.sign]
    if effects:
        found = "it changes F1"
        text = f"Against λ = 0, λ = {', '.join(effects)} changes F1 of sampled slow answers."
    elif any(one.found for one in claims):
        found, text = UNDECIDED, "No value can be told from λ = 0 by F1 of sampled slow answers."
    else:
        found, text = NOT_RUN, "No pair of values is run yet."
    return Answer("What does λ_cali do?", found, text, claims)


def _values_of(table: Table, key: str) -> dict[str, str]:
    """The controls that are MER-R1 with this one override, and its value."""
    found, reference = {}, table.rows.get("mer_r1")
    for name, row in table.controls.items():
        same = reference and (row.experiment, row.start) == (reference.experiment, reference.start)
        if same and [one.partition("=")[0] for one in row.overrides] == [key]:
            found[name] = row.overrides[0].partition("=")[2]
    return found


def _content(results: Results) -> Answer:
    """Each row beside the control that differs by the shuffle alone."""
    controls = {name: row for name, row in results.table.controls.items() if _SHUFFLE in row.overrides}
    claims = tuple(
        between(results, name, shuffled)
        for shuffled, control in controls.items()
        for name, row in results.table.everything.items()
        if (row.experiment, row.start, {*row.overrides, _SHUFFLE})
        == (control.experiment, control.start, set(control.overrides))
        and name != shuffled
    )
    verdicts = [one.verdict for one in claims]
    decided = {one for one in verdicts if one in (YES, NO)}
    found = decided.pop() if len(decided) == 1 else UNDECIDED if UNDECIDED in verdicts or decided else NOT_RUN
    meaning = {
        YES: "Δ of the right response is better than Δ of another response of the group",
        NO: "Δ of the right response is worse than Δ of another response of the group",
        UNDECIDED: "MER-R1 cannot be told from MER-R1 with Δ shuffled inside each group",
        NOT_RUN: "The controls are not run yet",
    }[found]
    question = "Does the content of Δ matter, or only its noise?"
    return Answer(question, found, f"{meaning}, by F1 of sampled slow answers.", claims)


def _proposition_1(results: Results) -> Answer:
    question = "What does τ of Proposition 1 look like, and does the correlation gap follow it?"
    rows = [row for row in results.rows if any(True for _ in results.curves(row, "proposition_1/log_tau"))]
    if not rows:
        return Answer(question, NOT_RUN, "No run has logged it.")
    logs = [
        value
        for row in rows
        for one in results.curves(row, "proposition_1/log_tau")
        for value in one
        if value is not None
    ]
    low, middle, high = (math.exp(value) for value in _quantiles(logs))
    share = _share(results, rows, "proposition_1/follows")
    above = stats.fmean(value > 0 for value in logs)
    decided = verdict(share and _shifted(share, 0.5))
    text = (
        f"The geometric mean of τ over the groups of a step is {middle:.2f} in the median step (5 to 95 % of steps: "
        f"{low:.2f} to {high:.2f}), above 1 in {above:.0%} of steps. "
    )
    if share:
        text += (
            f"F1's advantage follows recall more than precision if and only if τ > 1 in {share.value:.0%} "
            f"[{share.low:.0%}, {share.high:.0%}] of groups ({share.seeds} runs; 50 % is chance)."
        )
    return Answer(question, decided, text)


def _r_neg(results: Results) -> Answer:
    question = "Is R⁻ defined often enough to matter?"
    rows = [row for row in results.rows if any(True for _ in results.curves(row, "confidence/calib_neg/undefined"))]
    undefined = {side: _share(results, rows, f"confidence/calib_{side}/undefined") for side in ("pos", "neg")}
    without = {side: _share(results, rows, f"advantage/calib_{side}/constant_groups") for side in ("pos", "neg")}
    if undefined["neg"] is None or undefined["pos"] is None:
        return Answer(question, NOT_RUN, "No run has read confidences.")
    text = f"R⁻ is defined for {1 - undefined['neg'].value:.0%} of responses, R⁺ for {1 - undefined['pos'].value:.0%}."
    if without["neg"] is None or without["pos"] is None:
        return Answer(question, UNDECIDED, text)
    moves = without["neg"]
    decided = verdict(_shifted(moves, 0.5), expected=-1)  # against half of the groups
    text += (
        f" It differs between at least two responses, and so moves the advantage, in {1 - moves.value:.0%} "
        f"[{1 - moves.high:.0%}, {1 - moves.low:.0%}] of groups (R⁺: {1 - without['pos'].value:.0%}); yes means more "
        f"than half of them. Mean over {moves.seeds} runs."
    )
    return Answer(question, decided, text)


def _quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """5 %, 50 % and 95 %."""
    ordered = sorted(values)
    places = (round(share * (len(ordered) - 1)) for share in (0.05, 0.5, 0.95))
    low, middle, high = (ordered[place] for place in places)
    return low, middle, high


def _share(results: Results, rows: Sequence[str], name: str) -> Interval | None:
    """A metric over the steps of all runs of some rows: each run is a seed, each step a clip (the same prompts)."""
    curves = [curve for row in rows for curve in results.curves(row, name)]
    if not curves:
        return None
    shortest = min(map(len, curves))
    seeds = {seed for row in rows for seed in results.finished[row]}
    return interval([curve[:shortest] for curve in curves], level=results.table.level(seeds))


def _shifted(found: Interval, by: float) -> Interval:
    return replace(found, value=found.value - by, low=found.low - by, high=found.high - by)
