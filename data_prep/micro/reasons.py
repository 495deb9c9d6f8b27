"""Who writes the reasons of MER-Micro: an annotator that sees every cue, or one that misses and misreads some.

Labels are never touched: they are the true emotions of the clip in every generator.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from data_prep.micro.cues import CHANNELS, EMOTIONS, FACE_SIGNS, NEUTRAL, VOICE_SIGNS


@dataclass(frozen=True, slots=True)
class Annotator:
    """How reasons come about.

    Attributes:
        missed: chance that a cue which carries an emotion is described as neutral.
        misread: chance that such a cue is described as another emotion.
        concludes: whether a reason says that the cues differ, and ends with all label words.
    """

    missed: float = 0.0
    misread: float = 0.0
    concludes: bool = False


GENERATORS: dict[int, dict[str, Annotator]] = {
    # generator: annotators by the name that `--reasons` takes; the first is the default
    1: {"perfect": Annotator(concludes=True)},
    2: {"imperfect": Annotator(missed=0.3, misread=0.07), "perfect": Annotator()},
}


def describe(cues: Mapping[str, str], annotator: Annotator, rng: random.Random) -> dict[str, str]:
    """The states that the annotator sees, by channel."""
    return {channel: _seen(cues[channel], annotator, rng) for channel in CHANNELS}


def _seen(state: str, annotator: Annotator, rng: random.Random) -> str:
    if state == NEUTRAL:
        return state
    chance = rng.random()
    other = rng.choice([emotion for emotion in EMOTIONS if emotion != state])
    if chance < annotator.missed:
        return NEUTRAL
    return other if chance < annotator.missed + annotator.misread else state


def write_reason(described: Mapping[str, str], rng: random.Random, conclusion: str = "") -> str:
    """A short paragraph: a sentence for each cue, in the order face, voice, words, and the conclusion."""
    face, voice, words = (described[channel] for channel in CHANNELS)
    person, tone, text = (rng.choice(pair) for pair in (("face", "person"), ("voice", "tone"), ("words", "text")))
    verb = "seem" if text == "words" else "seems"
    seen = f"The {person} looks calm." if face == NEUTRAL else f"The {person} looks {face}, with {FACE_SIGNS[face]}."
    heard = f"The {tone} sounds flat." if voice == NEUTRAL else f"The {tone} sounds {voice}, {VOICE_SIGNS[voice]}."
    said = f"The {text} {verb} plain." if words == NEUTRAL else f"The {text} {verb} {words}."
    return f"{seen} {heard} {said} {conclusion}".strip()


def conclude(emotions: tuple[str, ...], labels: tuple[str, ...]) -> str:
    """Says that the cues differ, where they do, and lists all labels."""
    listed = labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"
    return f"{'The cues differ. ' if len(emotions) > 1 else ''}So the feeling is {listed}."
