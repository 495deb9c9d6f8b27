"""What the options of data_prep's commands may be, and those that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from data_prep.readers import NAMES


class Voice(StrEnum):
    """Speech engine of MER-Micro."""

    auto = "auto"
    espeak = "espeak"
    tones = "tones"


class Reasons(StrEnum):
    """Who writes the reasons of MER-Micro."""

    imperfect = "imperfect"
    perfect = "perfect"


class SizeName(StrEnum):
    """Named size of MER-Micro."""

    demo = "demo"
    benchmark = "benchmark"


class OnBad(StrEnum):
    """What to do with a bad row."""

    error = "error"
    skip = "skip"


class Missing(StrEnum):
    """What to do with a clip without picture or without sound."""

    refuse = "refuse"
    keep = "keep"


class Part(StrEnum):
    """A part of a clip."""

    picture = "picture"
    sound = "sound"
    subtitle = "subtitle"


class OddLabels(StrEnum):
    """What to do with a label that contains a character which no word has, such as a full-width comma."""

    refuse = "refuse"
    split = "split"
    keep = "keep"


Corpus = StrEnum("Corpus", NAMES)
CorpusOption = Annotated[Corpus, typer.Option(help="Name of the corpus.")]
RootOption = Annotated[Path, typer.Option(help="Folder of the downloaded corpus.")]
LinksOption = Annotated[list[Path] | None, typer.Option(help="Another folder that links in ROOT may point to.")]
OddLabelsOption = Annotated[
    OddLabels,
    typer.Option(help="Labels such as 'happy，sad' or 'Happy/Joyful': refuse, split there, or keep as one word."),
]
ReasonsOption = Annotated[
    Path | None, typer.Option(help="CSV name,reason for a training corpus, e.g. MER2025's file for MER2026.")
]
HeldOutOption = Annotated[list[Path] | None, typer.Option(help="Shard whose clips must not be in the training data.")]
