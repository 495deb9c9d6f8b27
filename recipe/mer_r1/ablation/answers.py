"""The paper's questions, each answered in a sentence by what the records show. An interval decides; noise does not.

Sampled answers decide. RL samples and trains these, and four answers per clip have less noise than one. The same
difference of greedy answers is given beside each.
"""

from __future__ import annotations

import math
import statistics as stats
from collections.abc import Sequence
from dataclasses import dataclass

from recipe.mer_r1.ablation.results import Results
from recipe.mer_r1.ablation.statistics import clips_that_decide, seeds_that_decide
from recipe.mer_r1.ablation.table import Table
from recipe.mer_r1.method.bootstrap import Interval, interval

YES, NO, UNDECIDED, NOT_RUN = "yes", "no", "undecided", "not run"
SLOW, GREEDY = "slow_sampled", "slow"
_MOST_CLIPS = 20_000
_SHUFFLE = "mer_r1.confidence.shuffle=true"


@dataclass(frozen=True)
class Answer:
    """A question, its verdict and the sentence with the figures."""

    question: str
    verdict: str
    text: str


def answers(results: Results) -> list[Answer]:
    """All of them, in the order of the paper's argument."""
    return [
        _slow_loses(results),
        _slow_wins(results, "baseline", "Does the baseline cure it?"),
        _slow_wins(results, "mer_r1", "Does MER-R1 turn it round?"),
        _order(results),
        _falls_behind(results),
        _lambda_cali(results),
        _content(results),
        _proposition_1(results),
        _r_neg(results),
    ]


def verdict(found: Interval | None, expected: int = 1) -> str:
    """Of a claim that a difference is above 0 (`expected` 1) or below 0 (−1)."""
    if found is None:
        return NOT_RUN
    return {expected: YES, -expected: NO, 0: UNDECIDED}[found.sign]


def figure(found: Interval) -> str:
    """`+0.021 [−0.004, +0.046], 3 seeds`."""
    seeds = f"{found.seeds} seeds" if found.seeds > 1 else "1 seed, clips alone"
    return f"{signed(found.value)} [{signed(found.low)}, {signed(found.high)}], {seeds}"


def signed(value: float) -> str:
    """Three decimals, with a sign."""
    return f"{value:+.3f}".replace("-", "−")


def what_would_decide(found: Interval, seed_sd: float | None) -> str:
    """For an undecided difference: how many seeds, or clips, by the spread that was seen."""
    seeds = seeds_that_decide(found, seed_sd)
    if seeds is not None:
        seeds = max(seeds, found.seeds + 1)
        return f"about {seeds} seeds would decide it, if the difference and its spread over seeds stay as seen"
    if found.seed_sd is None and seed_sd is None:
        return "one seed cannot decide it, and no other row tells how much seeds differ"
    clips = clips_that_decide(found)
    if clips is None or clips > _MOST_CLIPS:
        return "a difference this small cannot be decided here"
    if clips > found.clips:
        return f"no number of seeds would decide it on these {found.clips} clips: it needs over {clips} clips"
    return "over 200 seeds would be needed to decide it"


def _claim(results: Results, found: Interval | None, mode: str, expected: int = 1) -> tuple[str, str]:
    """Verdict and figure of one claim, with what would decide it."""
    decided = verdict(found, expected)
    if found is None:
        return decided, "no run"
    text = figure(found)
    if decided == UNDECIDED:
        text += f"; {what_would_decide(found, results.seed_sd(mode))}"
    return decided, text


def _greedy(found: Interval | None) -> str:
    return f"; greedy {figure(found)}" if found else ""


def _slow_loses(results: Results) -> Answer:
    question = "Does slow thinking lose to fast after SFT?"
    found = results.gap("sft", sampled=True)
    decided, text = _claim(results, found, SLOW, expected=-1)
    if found is None:
        return Answer(question, decided, "The SFT models are not evaluated yet.")
    recall, precision = (results.gap("sft", sampled=True, score=score) for score in ("recall", "precision"))
    of_scores = f"recall {figure(recall)}; precision {figure(precision)}" if recall and precision else ""
    start = {
        YES: "Sampled slow answers of the SFT models have a lower F1 than fast ones",
        NO: "Sampled slow answers of the SFT models have a higher F1 than fast ones",
        UNDECIDED: "Sampled slow and fast answers of the SFT models cannot be told apart by F1",
    }[decided]
    return Answer(question, decided, f"{start}: slow − fast {text} ({of_scores}{_greedy(results.gap('sft'))}).")


def _slow_wins(results: Results, row: str, question: str) -> Answer:
    found = results.gap(row, sampled=True)
    decided, text = _claim(results, found, SLOW)
    if found is None:
        return Answer(question, decided, f"{row} is not run yet.")
    start = {
        YES: f"After {row}, sampled slow answers have a higher F1 than fast ones",
        NO: f"After {row}, sampled slow answers still have a lower F1 than fast ones",
        UNDECIDED: f"After {row}, sampled slow and fast answers cannot be told apart by F1",
    }[decided]
    before = results.gap("sft", sampled=True)
    change = f"; before RL {figure(before)}" if before else ""
    return Answer(question, decided, f"{start}: slow − fast {text}{change}{_greedy(results.gap(row))}.")


def _together(verdicts: Sequence[str]) -> str:
    """Of several claims that must all hold."""
    for one in (NO, NOT_RUN, UNDECIDED):
        if one in verdicts:
            return one
    return YES


def _pairs(results: Results, pairs: Sequence[tuple[str, str]], expected: int = 1) -> tuple[list[str], str]:
    """Verdicts and text of sampled slow F1 of pairs of rows."""
    verdicts, texts = [], []
    for row, other in pairs:
        found = results.difference(row, other, SLOW)
        decided, text = _claim(results, found, SLOW, expected)
        verdicts.append(decided)
        if found is None:
            texts.append(f"{row} − {other}: not run")
            continue
        texts.append(f"{row} − {other} {text} ({decided}{_greedy(results.difference(row, other, GREEDY))})")
    return verdicts, ". ".join(texts)


def _order(results: Results) -> Answer:
    verdicts, text = _pairs(results, [("mer_r1", "rd_ad"), ("rd_ad", "rd"), ("rd", "baseline"), ("mer_r1", "baseline")])
    return Answer(
        "Is Ex3 (mer_r1) > Ex2 (rd_ad) > Ex1 (rd) > baseline?", _together(verdicts[:3]), f"Sampled slow F1: {text}."
    )


def _falls_behind(results: Results) -> Answer:
    verdicts, text = _pairs(results, [("b1", "mer_r1"), ("b2", "mer_r1")], expected=-1)
    question = "Do B1 and B2 fall behind MER-R1?"
    return Answer(question, _together(verdicts), f"Sampled slow F1: {text}.")


def _lambda_cali(results: Results) -> Answer:
    """Against λ = 0, which is rd_ad."""
    question = "What does λ_cali do?"
    rows = _values_of(results.table, "experiment.lambda_cali") | {"mer_r1": "0.1"}
    found = {value: results.difference(row, "rd_ad", SLOW) for row, value in rows.items()}
    there = {value: one for value, one in found.items() if one is not None}
    if not there:
        return Answer(question, NOT_RUN, "No pair of values is run yet.")
    effects = [value for value, one in there.items() if one.sign]
    decided = "it changes F1" if effects else UNDECIDED
    start = (
        f"Against λ = 0 (rd_ad), λ = {', '.join(effects)} changes" if effects else "No value can be told from λ = 0 in"
    )
    text = "; ".join(f"λ = {value}: {figure(one)}" for value, one in there.items())
    return Answer(question, decided, f"{start} sampled slow F1. {text}. Not run: {_names(found, there)}.")


def _values_of(table: Table, key: str) -> dict[str, str]:
    """The controls that are MER-R1 with this one override, and its value."""
    found = {name: row.overrides for name, row in table.controls.items() if row.experiment == "mer_r1"}
    return {
        name: only[0].partition("=")[2]
        for name, only in found.items()
        if [one.partition("=")[0] for one in only] == [key]
    }


def _names(found: dict[str, object], there: dict[str, object]) -> str:
    return ", ".join(value for value in found if value not in there) or "none"


def _content(results: Results) -> Answer:
    """Each row beside the control that differs by the shuffle alone."""
    question = "Does the content of Δ matter, or only its noise?"
    controls = {name: row for name, row in results.table.controls.items() if _SHUFFLE in row.overrides}
    pairs = [
        (name, shuffled)
        for shuffled, control in controls.items()
        for name, row in results.table.everything.items()
        if row.model_copy(update={"overrides": [*row.overrides, _SHUFFLE], "seeds": control.seeds}) == control
    ]
    verdicts, text = _pairs(results, pairs)
    decided = {one for one in verdicts if one in (YES, NO)}
    found = decided.pop() if len(decided) == 1 else UNDECIDED if UNDECIDED in verdicts or decided else NOT_RUN
    meaning = {
        YES: "Δ of the right response is better than Δ of another response of the group",
        NO: "Δ of the right response is worse than Δ of another response of the group",
        UNDECIDED: "MER-R1 cannot be told from MER-R1 with Δ shuffled inside each group",
        NOT_RUN: "The controls are not run yet",
    }[found]
    return Answer(question, found, f"{meaning}. Sampled slow F1: {text}.")


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
    return interval([curve[:shortest] for curve in curves])


def _shifted(found: Interval, by: float) -> Interval:
    return Interval(
        found.value - by, found.low - by, found.high - by, found.seeds, found.clips, found.seed_sd, found.clip_se
    )
