"""All figures that a report's entries give, by file name, and what others lack."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from recipe.mer_r1.eval.corpora import TITLES, task_of
from recipe.mer_r1.eval.figures import dumbbell, models, retained, thinking
from recipe.mer_r1.eval.figures.panels import Picture, draw
from recipe.mer_r1.eval.tables.entry import Entry

SUFFIXES = (".png", ".svg")


def pictures(entries: Sequence[Entry]) -> dict[str, Picture]:
    """File name without suffix → picture; Figure 3 once a model."""
    found: dict[str, Picture | None] = {"slow_fast": dumbbell.figure(entries)}
    for row in dict.fromkeys(entry.row for entry in entries):
        stem = "figure_3_" + re.sub(r"[^\w.+-]+", "_", row)
        while stem in found:  # names that differ in what file names cannot show
            stem += "_"
        found[stem] = thinking.figure([entry for entry in entries if entry.row == row])
    found |= {"figure_5": models.figure(entries), "figure_8": retained.figure(entries)}
    return {stem: picture for stem, picture in found.items() if picture}


def write(found: dict[str, Picture], folder: Path) -> None:
    """Draw them, and take away those of an earlier report."""
    for pattern in ("slow_fast", "figure_*"):
        for suffix in SUFFIXES:
            for path in folder.glob(pattern + suffix):
                path.unlink()
    for stem, picture in found.items():
        draw(picture, [folder / (stem + suffix) for suffix in SUFFIXES])


def markdown(found: dict[str, Picture], entries: Sequence[Entry]) -> str:
    """The files, and what is missing with the command that makes it."""
    files = ", ".join(f"{stem}.png" for stem in found) or "none"
    text = ["### Figures", "", f"Files (each also as .svg): {files}.", ""]
    text += [f"- {line}" for entry in entries for line in _missing(entry)]
    if "figure_5" not in found:
        text.append("- Figure 5 compares the slow answers of at least two models: give folders of another model")
    text.append(
        "- Figure 7 shows training: draw it with `python -m recipe.mer_r1.curves NAME=RUN_DIR … --out figure_7.png`"
    )
    return "\n".join(text)


def _missing(entry: Entry) -> list[str]:
    """What the figures lack of a folder; nothing where its labels are no emotion words, as the paper's have none."""
    if task_of(entry.corpus) not in ("ew", "hit"):
        return []
    where = f"{entry.row} on {TITLES.get(entry.corpus, entry.corpus)}"
    found = {mode: entry.folder.mode(mode) for mode in ("slow", "fast")}
    lines = [
        f"Missing in Figures 3 and 8: {where} has no {mode} answers; run `main_eval run … --mode slow,fast`"
        for mode, result in found.items()
        if result is None
    ]
    unread = dict.fromkeys(result.unread for result in found.values() if result and result.unread)
    return lines + [f"Missing in Figures 3 and 5 (c, d): {where}: {reason}" for reason in unread]
