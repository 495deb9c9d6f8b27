"""What a user may choose when shards are built."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data_prep.label_words import OddLabels
from recipe.mer_r1.method.wheel import EmotionWheels

OnBad = Literal["error", "skip"]
Missing = Literal["refuse", "keep"]
Part = Literal["picture", "sound", "subtitle"]


@dataclass(frozen=True)
class Options:
    """What a user may choose.

    Attributes:
        sft: number of clips for SFT, or all that have a reason.
        missing: what to do with a clip that has no picture file or no sound file.
        without: parts that all rows are written without.
    """

    sft: int | Literal["all"] = 0
    seed: int = 0
    embed: bool = False
    on_bad: OnBad = "error"
    odd_labels: OddLabels = "refuse"
    data_source: str | None = None
    quarantine: Path | None = None
    held_out: tuple[Path, ...] = ()
    reasons: Path | None = None
    """A CSV `name,reason` for a training corpus, e.g. MER2025's for MER2026."""
    train: bool = False
    """Make a training corpus of a set of labels that may be trained on."""
    wheels: EmotionWheels = field(default_factory=EmotionWheels.builtin)
    command: str = ""
    missing: Missing = "refuse"
    without: tuple[Part, ...] = ()
