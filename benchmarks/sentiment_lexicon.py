"""Measure how often the lexicon of `main_eval sentiment` agrees with the obvious polarity of emotion wheel words.

    python benchmarks/sentiment_lexicon.py [--json] [--out FILE] [--wheels DIR]

A word's obvious polarity is that of its level-1 category in POLARITY. Words are left out if all their categories are
missing there (surprise, genius), or if they have categories of both polarities. DIR, or $MER_R1_SHARED, is a folder
with emotion_wheel/mer2025 and emotion_wheel/mer2026. These are not part of this project; missing folders are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, where it is not installed

from recipe.mer_r1.eval.sentiment import lexicon
from recipe.mer_r1.files.provenance import git_state, versions
from recipe.mer_r1.method.wheel import EmotionWheels

REVISIONS = ("mer2025", "mer2026")
_NEGATIVE = ("mad", "angry", "anger", "disgusted", "disgust", "sad", "scared", "fearful", "fear", "bad")
_POSITIVE = ("happy", "joyful", "joy", "peaceful", "powerful")
# By hand. Surprise goes either way, and genius is no feeling: neither is here.
POLARITY = dict.fromkeys(_NEGATIVE, "negative") | dict.fromkeys(_POSITIVE, "positive")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("MER_R1_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument(
        "--wheels",
        type=Path,
        default=default,
        metavar="DIR",
        help="folder with emotion_wheel/ (default: $MER_R1_SHARED)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the JSON to this file")
    arguments = parser.parse_args(argv)
    figures = measure(arguments.wheels)
    text = json.dumps(figures, indent=2)
    print(text if arguments.json else table(figures))
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


def measure(shared: Path) -> dict[str, Any]:
    """`wheels` by source: the embedded ones and the official revisions that are there."""
    sources = {"builtin": EmotionWheels.builtin()}
    for revision in REVISIONS:
        folder = shared / "emotion_wheel" / revision
        if folder.is_dir():
            sources[revision] = EmotionWheels.load(folder)
        else:
            print(f"{folder} does not exist: left out", file=sys.stderr)
    known = lexicon.load()
    found = {name: agreement(wheels, known) for name, wheels in sources.items()}
    return {"wheels": found, "git": git_state(), "versions": versions("mer-r1", lexicon.PACKAGE)}


def obvious(wheels: EmotionWheels) -> dict[str, str]:
    """Wheel word → its polarity, where it has one."""
    polarities: dict[str, set[str]] = {}
    for wheel in range(1, 6):
        for category in wheels.all_categories(wheel):
            for word in wheels.words(wheel, category) if category in POLARITY else ():
                polarities.setdefault(word, set()).add(POLARITY[category])
    return {word: found.pop() for word, found in sorted(polarities.items()) if len(found) == 1}


def agreement(wheels: EmotionWheels, known: Mapping[str, float]) -> dict[str, Any]:
    """Counts over the distinct words and over the category names, and the words that the lexicon takes otherwise."""
    truth = obvious(wheels)
    guess = {word: lexicon.polarity([word], known) for word in truth}
    by_name = [word for word in POLARITY if word in truth]
    return {
        "words": _counts(truth, guess, list(truth)),
        "positive": _counts(truth, guess, [word for word in truth if truth[word] == "positive"]),
        "negative": _counts(truth, guess, [word for word in truth if truth[word] == "negative"]),
        "category_names": _counts(truth, guess, by_name),
        "otherwise": [word for word in truth if guess[word] not in (None, truth[word])],
    }


def _counts(truth: Mapping[str, str], guess: Mapping[str, str | None], words: Sequence[str]) -> dict[str, int]:
    known = [word for word in words if guess[word] is not None]
    return {"n": len(words), "known": len(known), "agree": sum(guess[word] == truth[word] for word in known)}


def table(figures: Mapping[str, Any]) -> str:
    """A row a source and group of words."""
    lines = [f"{'wheels':10}{'words':16}{'n':>6}{'known':>7}{'agree':>7}{'of known':>10}{'of all':>9}"]
    for source, found in figures["wheels"].items():
        for group in ("words", "positive", "negative", "category_names"):
            n, known, agree = found[group].values()
            lines.append(
                f"{source:10}{group:16}{n:6}{known:7}{agree:7}{100 * agree / known:9.1f}%{100 * agree / n:8.1f}%"
            )
        lines.append(f"{'':10}otherwise: {', '.join(found['otherwise'])}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
