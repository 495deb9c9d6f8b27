"""Sizes that have a name: the demo's, which trains in minutes, and the benchmark's, on which results are reported."""

from __future__ import annotations

from typing import NamedTuple


class Size(NamedTuple):
    """Numbers of clips; SFT takes three of four training clips, RL the rest."""

    clips: int
    test_clips: int


SIZES: dict[str, Size] = {
    "demo": Size(clips=1600, test_clips=160),
    # 800 test clips more than halve the demo's standard error; of 4,000 training clips RL gets 1,000 that SFT has not
    # seen, as many prompts as AffectGPT-R1 takes.
    "benchmark": Size(clips=4000, test_clips=800),
}
