"""The corpus card: figures measured on the plans, and the README that is laid beside the clips."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from statistics import mean

from data_prep.micro.cues import CHANNELS, EMOTION_OF, EMOTIONS, NEUTRAL
from data_prep.micro.plan import SCENARIOS, ClipPlan, cue_distribution, emotions_of


def measure(plans: dict[str, list[ClipPlan]]) -> dict:
    """Figures of the corpus: label counts, conflicts, and how far guesses that know only some cues can get."""
    every = [plan for each in plans.values() for plan in each]
    subsets = [(), *combinations(CHANNELS, 1), *combinations(CHANNELS, 2), CHANNELS]
    return {
        "clips": {split: len(each) for split, each in plans.items()},
        "conflicting_share": _share(plan.conflicting for plan in every),
        "clips_with_pattern": {name: _share(plan.scenario == name for plan in every) for name in SCENARIOS},
        "emotions_per_clip": _shares(len(plan.emotions) for plan in every),
        "labels_per_clip": _shares(len(plan.labels) for plan in every),
        "clips_with_emotion": {e: _share(e in plan.emotions for plan in every) for e in EMOTIONS},
        "clips_with_label_word": _range(_share(word in plan.labels for plan in every) for word in EMOTION_OF),
        "reason_words_mean": round(mean(len(plan.reason.split()) for plan in every), 1),
        "best_f1_knowing": {"+".join(known) or "nothing": best_f1(plans, known) for known in subsets},
        "cues_described": _described(every),
    }


def _described(plans: list[ClipPlan]) -> dict[str, float]:
    """Of the cues that carry an emotion: how the reasons describe them."""
    pairs = [(plan.cues[c], plan.described[c]) for plan in plans for c in CHANNELS if plan.cues[c] != NEUTRAL]
    return {
        "as they are": _share(told == state for state, told in pairs),
        "as neutral": _share(told == NEUTRAL for _, told in pairs),
        "as another emotion": _share(told not in (state, NEUTRAL) for state, told in pairs),
    }


def best_f1(plans: dict[str, list[ClipPlan]], known: tuple[str, ...]) -> float:
    """Mean F1 (of emotion sets, test clips) of the best answer to the states of the `known` channels alone.

    The best answer to a combination of states is the set of emotions with the highest expected F1 under the
    generator's own distribution (not estimated from clips), so no model that sees only these channels does better
    except by luck.
    """
    groups: dict[tuple[str, ...], Counter[tuple[str, ...]]] = {}
    for cues, chance in cue_distribution():
        states = tuple(cues[channel] for channel in known)
        groups.setdefault(states, Counter())[emotions_of(cues)] += chance
    answers = {states: _best_answer(truths) for states, truths in groups.items()}
    scores = [f1(answers[tuple(plan.cues[channel] for channel in known)], plan.emotions) for plan in plans["test"]]
    return round(mean(scores), 3)


def f1(answer: tuple[str, ...], truth: tuple[str, ...]) -> float:
    """F1 of two non-empty sets."""
    return 2 * len(set(answer) & set(truth)) / (len(set(answer)) + len(set(truth)))


def _best_answer(truths: Counter[tuple[str, ...]]) -> tuple[str, ...]:
    sets = [answer for size in range(1, len(EMOTIONS) + 1) for answer in combinations(EMOTIONS, size)]
    return max(sets, key=lambda answer: sum(f1(answer, truth) * chance for truth, chance in truths.items()))


def _share(flags) -> float:
    return round(mean(map(float, flags)), 3)


def _shares(values) -> dict[str, float]:
    counted = Counter(values)
    return {str(value): round(count / counted.total(), 3) for value, count in sorted(counted.items())}


def _range(values) -> dict[str, float]:
    values = list(values)
    return {"words": len(values), "rarest": min(values), "most frequent": max(values)}


def text(identity: dict, figures: dict) -> str:
    """The README of a generated corpus."""
    options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in identity["arguments"].items())
    lines = [
        "# MER-Micro",
        "",
        "**Made, not recorded.** Every clip is drawn and synthesised by a program: no person was filmed, recorded or",
        "described. It exists to compare training methods on a laptop and says nothing about people's emotions.",
        "",
        f"Made by `python -m data_prep micro --generator {identity['generator']} {options}`;"
        f" voice: {identity['voice']}.",
        "How it is made and what is built in: docs/MER-Micro.md of the project.",
        "",
        "| measured on this corpus | |",
        "|---|---|",
        *figure_rows(figures),
        "",
    ]
    return "\n".join(lines)


def figure_rows(figures: dict) -> list[str]:
    """The figures as rows of a Markdown table."""

    def listed(values: dict) -> str:
        return ", ".join(f"{key}: {value}" for key, value in values.items())

    return [
        f"| clips | {listed(figures['clips'])} |",
        f"| clips whose cues carry different emotions | {figures['conflicting_share']} |",
        f"| share of clips by pattern | {listed(figures['clips_with_pattern'])} |",
        f"| share of clips by number of emotions | {listed(figures['emotions_per_clip'])} |",
        f"| share of clips by number of label words | {listed(figures['labels_per_clip'])} |",
        f"| share of clips with an emotion | {listed(figures['clips_with_emotion'])} |",
        f"| share of clips with a label word | {listed(figures['clips_with_label_word'])} |",
        f"| words a reason, mean | {figures['reason_words_mean']} |",
        f"| cues with an emotion that the reasons describe | {listed(figures['cues_described'])} |",
        f"| F1 on the test clips of the best answer that knows only | {listed(figures['best_f1_knowing'])} |",
    ]
