"""Sizes that have a name: the demo's, which trains in minutes, and the benchmark's, on which results are reported."""

from __future__ import annotations

from typing import NamedTuple


class Size(NamedTuple):
    """Numbers of clips. Training clips are for SFT and RL. Base clips (generator 2) are for the base stage alone."""

    clips: int
    test_clips: int
    base_clips: int = 0


SIZES: dict[int, dict[str, Size]] = {
    # generator: sizes by name
    1: {
        "demo": Size(clips=1600, test_clips=160),
        # 800 test clips more than halve the error of 160; of 4,000 training clips RL gets 1,000 that SFT has not seen,
        # as many prompts as AffectGPT-R1 takes.
        "benchmark": Size(clips=4000, test_clips=800),
    },
    2: {
        "demo": Size(clips=1000, test_clips=320, base_clips=600),
        "benchmark": Size(clips=4000, test_clips=800, base_clips=2400),
    },
}
SFT_SHARE: dict[int, float] = {1: 0.75, 2: 0.6}
"""Of the training clips; RL gets the rest."""
