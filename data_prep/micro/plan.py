"""What a clip of MER-Micro shows, drawn from the seed: cues, subtitle, labels, reason, looks.

A plan depends on (seed, split, index) and the annotator alone, so a corpus can be made in any order and a longer one
begins like a shorter one. The annotator decides the reason alone: all generators make the same clips and labels. Only
`random.Random` seeded by a string is used: its streams are the same on every platform.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

from data_prep.micro.cues import CHANNELS, EMOTIONS, NEUTRAL, OPENERS, SENTENCES, SYNONYMS
from data_prep.micro.reasons import Annotator, conclude, describe, write_reason

SCENARIOS: dict[str, float] = {
    # name: share of the clips. The letters say which channels carry the same emotion; "-" carries none.
    "a--": 0.28,  # one channel carries the emotion
    "aa-": 0.10,  # two agree
    "aaa": 0.10,  # all agree
    "ab-": 0.30,  # two disagree
    "aab": 0.12,  # two agree, the third disagrees (sarcasm: happy words, angry face and voice)
    "abc": 0.10,  # all disagree
}
SECOND_WORD = 0.4
"""Chance that a clip with a single emotion gets a second word for it, so that the number of words says little."""


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """One clip.

    Attributes:
        cues: each channel's emotion, or "neutral".
        labels: the open-vocabulary words.
        described: each channel's state as the reason has it.
    """

    name: str
    scenario: str
    cues: dict[str, str]
    subtitle: str
    labels: tuple[str, ...]
    described: dict[str, str]
    reason: str
    look_seed: str
    """Seeds what carries no emotion: skin, hair, background, small jitter of face and voice."""

    @property
    def emotions(self) -> tuple[str, ...]:
        """The true emotions: those of the cues, each once, in the order face, voice, words."""
        return emotions_of(self.cues)

    @property
    def conflicting(self) -> bool:
        """Whether two channels carry different emotions."""
        return len(self.emotions) > 1


def draw_plan(seed: int, split: str, index: int, annotator: Annotator) -> ClipPlan:
    """Draw clip `index` of `split` ("base", "train" or "test") of the corpus with this seed."""
    key = f"mer-micro/{seed}/{split}/{index}"
    rng = random.Random(key)
    scenario = rng.choices(list(SCENARIOS), weights=list(SCENARIOS.values()))[0]
    cues = _draw_cues(scenario, rng)
    emotions = emotions_of(cues)
    labels = _draw_labels(emotions, rng)
    subtitle = _draw_subtitle(cues["words"], rng)
    # A stream of its own: what an annotator misses changes no other draw.
    described = describe(cues, annotator, random.Random(f"{key}/annotator"))
    return ClipPlan(
        name=f"{split}_{index:05d}",
        scenario=scenario,
        cues=cues,
        subtitle=subtitle,
        labels=labels,
        described=described,
        reason=write_reason(described, rng, conclude(emotions, labels) if annotator.concludes else ""),
        look_seed=f"{key}/look",
    )


def emotions_of(cues: dict[str, str]) -> tuple[str, ...]:
    """The emotions of the cues, each once, in the order face, voice, words."""
    return tuple(dict.fromkeys(cues[channel] for channel in CHANNELS if cues[channel] != NEUTRAL))


def _draw_cues(scenario: str, rng: random.Random) -> dict[str, str]:
    return _assign(rng.sample(scenario, 3), rng.sample(EMOTIONS, 3))


def _assign(letters: Sequence[str], emotions: Sequence[str]) -> dict[str, str]:
    """`letters` say which channel takes which of the three emotions, or none."""
    emotion_of = dict(zip("abc", emotions, strict=True))
    return {channel: emotion_of.get(letter, NEUTRAL) for channel, letter in zip(CHANNELS, letters, strict=True)}


def cue_distribution() -> Iterator[tuple[dict[str, str], float]]:
    """Every way to draw the cues and its chance; combinations may come more than once."""
    orders = list(permutations(EMOTIONS, 3))
    for scenario, share in SCENARIOS.items():
        for letters in permutations(scenario):
            for emotions in orders:
                yield _assign(letters, emotions), share / 6 / len(orders)


def _draw_labels(emotions: tuple[str, ...], rng: random.Random) -> tuple[str, ...]:
    """One word an emotion, in order; a single emotion sometimes gets two."""
    count = 2 if len(emotions) == 1 and rng.random() < SECOND_WORD else 1
    return tuple(word for emotion in emotions for word in rng.sample(SYNONYMS[emotion], count))


def _draw_subtitle(state: str, rng: random.Random) -> str:
    text = f"{rng.choice(OPENERS)} {rng.choice(SENTENCES[state])}".strip()
    return text[0].upper() + text[1:] + "."
