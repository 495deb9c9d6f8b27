"""What a model's vocabulary allows the confidence signal (Eq. 1) to see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recipe.mer_r1.doctor.outcome import Check, Outcome, Subject, ok, warning
from recipe.mer_r1.method.alignment import align
from recipe.mer_r1.method.token_sets import CategorySets, category_sets
from recipe.mer_r1.method.wheel import EmotionWheels, WheelError, load_wheels


def check_confidence(subject: Subject) -> Outcome:
    """Every category has tokens; how many words have their own first token in their category's set."""
    from transformers import AutoTokenizer

    if not (Path(subject.model_path) / "tokenizer_config.json").is_file():
        return warning(f"{subject.model_path}: no tokenizer here, not checked", "name a model folder with --model DIR")
    try:
        wheels = load_wheels(subject.wheels)
    except WheelError:
        return warning("the wheels cannot be read, not checked", "see the check of the wheels")
    tokenizer = AutoTokenizer.from_pretrained(subject.model_path)
    rule = subject.config.mer_r1.confidence.shared_tokens
    sets = category_sets(wheels, tokenizer, rule)
    (start, total), (later, _) = (coverage(wheels, tokenizer, sets, first=first) for first in (True, False))
    seen = f"{sets} ({rule}); own token in its category's set: {start / total:.1%} at the start of an answer"
    seen += f", {later / total:.1%} behind a comma, of {total} (word, wheel)"
    if not all(sets.token_ids):
        return warning(seen, "mer_r1.confidence.shared_tokens=split leaves a token to every category")
    return ok(seen)


def coverage(wheels: EmotionWheels, tokenizer: Any, sets: CategorySets, first: bool) -> tuple[int, int]:
    """(covered, all) readings of all mapped words, each as the first word of an answer or behind another one."""
    words = [word for word in wheels.vocabulary if wheels.mask([word])]
    texts = [f"<think>x</think><answer>{'' if first else 'x, '}{word}</answer>" for word in words]
    covered = total = 0
    for word, ids in zip(words, tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True):
        token = align(ids, tokenizer).words[-1].token
        homes = sets.homes(word, wheels).values()
        total += len(homes)
        covered += sum(token is not None and sets.share(at, token) > 0 for at in homes)
    return covered, total


CHECKS = [Check("confidence", check_confidence, needs_preset=True)]
