"""A claim on a difference: its verdict, its figure, and what would decide it. An interval decides; noise does not."""

from __future__ import annotations

from dataclasses import dataclass

from recipe.mer_r1.ablation.results import Results
from recipe.mer_r1.ablation.statistics import clips_that_decide, seeds_that_decide
from recipe.mer_r1.method.bootstrap import Interval

YES, NO, UNDECIDED, NOT_RUN = "yes", "no", "undecided", "not run"
SLOW, GREEDY = "slow_sampled", "slow"
_MOST_CLIPS = 20_000


@dataclass(frozen=True)
class Claim:
    """That a difference is above 0 (or below).

    Attributes:
        name: of the difference, "mer_r1 − baseline".
        found: its interval; None where it is not run.
        verdict: of the claim.
        decides: what would decide it; empty where it is decided or not run.
        greedy: the same difference of greedy answers.
    """

    name: str
    found: Interval | None
    verdict: str
    decides: str
    greedy: Interval | None

    @property
    def text(self) -> str:
        """`mer_r1 − baseline +0.021 [−0.004, +0.046], 3 seeds`."""
        return f"{self.name} {figure(self.found)}" if self.found else f"{self.name}: not run"


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


def claim(
    results: Results, name: str, found: Interval | None, greedy: Interval | None = None, expected: int = 1
) -> Claim:
    """That a difference of sampled slow answers is above 0 (`expected` 1) or below 0 (−1)."""
    decided = verdict(found, expected)
    decides = what_would_decide(found, results.seed_sd(SLOW)) if found and decided == UNDECIDED else ""
    return Claim(name, found, decided, decides, greedy)


def between(results: Results, row: str, other: str, expected: int = 1, name: str = "") -> Claim:
    """That a row is above another one (or below) in F1 of sampled slow answers."""
    found, greedy = (results.difference(row, other, mode) for mode in (SLOW, GREEDY))
    return claim(results, name or f"{row} − {other}", found, greedy, expected)
