"""Slow–fast confidence in plain transformers: Eq. 1, 2 and 8 to 11 as the paper writes them, to compare with.

Naive on purpose: one whole forward per response and mode, float32, temperature 1, Python loops, one category after the
other. It shares no code with what it checks; wheels, the parser and the encoding of prompts are taken as given.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any

import torch

from recipe.mer_r1.method.answer import parse
from recipe.mer_r1.method.wheel import EmotionWheels
from verl_ext.models.rope import position_ids

EMPTIED_THOUGHT = "<think></think>"
SEPARATORS = ("", " ", ">", ",", "[", "'", '"', "\n")
FLOOR = -20.0  # nats; no log-confidence is lower
HARD_NEGATIVES = 3

Tokens = dict[str, dict[str, dict[int, float]]]
"""By wheel and category: token → the share of its probability that counts for the category."""
Confidence = dict[str, dict[str, float]]


@dataclass
class Word:
    """An answer's word: where it starts in each sequence, and its confidences there (nats; NaN where undefined).

    `slow_at` counts tokens of the response, `fast_at` those of the fast form. `slow` and `fast` are conf(c) of Eq. 1 by
    wheel ("w1") and category; `slow_word` and `fast_word` are the log-probs of the token the word starts with.
    """

    text: str
    slow_at: int
    fast_at: int
    slow: Confidence
    fast: Confidence
    slow_word: float
    fast_word: float


@dataclass
class Calibration:
    """Rewards and margins of one response, NaN where undefined, and what they are made of.

    `fast_ids` are the tokens of the fast form, end of turn included; empty where the answer holds no word.
    """

    calib_pos: float
    calib_neg: float
    calib_pos_word: float
    calib_neg_word: float
    margin_slow: float
    margin_fast: float
    words: list[Word]
    fast_ids: list[int]


def calibrate(
    policy: Any, processor: Any, wheels: EmotionWheels, encoded: Any, response: list[int], labels: list[str]
) -> Calibration:
    """Everything for one response (token ids) to one `EncodedPrompt` whose true words are `labels`."""
    text, fast_ids, starts = align(processor.tokenizer, response)
    tokens = category_tokens(processor.tokenizer, wheels)
    p_slow = log_probs(policy, processor, encoded, response)
    p_fast = log_probs(policy, processor, encoded, fast_ids)
    words = [
        Word(
            text=text[start:end],
            slow_at=slow_at,
            fast_at=fast_at,
            slow=confidences(p_slow[slow_at], tokens, wheels, text[start:end], response[slow_at]),
            fast=confidences(p_fast[fast_at], tokens, wheels, text[start:end], response[slow_at]),
            slow_word=max(FLOOR, p_slow[slow_at, response[slow_at]].item()),
            fast_word=max(FLOOR, p_fast[fast_at, response[slow_at]].item()),
        )
        for start, end, slow_at, fast_at in starts
    ]
    pos, neg = gap_rewards(wheels, labels, words, lambda word, wheel, c: word.slow[wheel][c] - word.fast[wheel][c])
    pos_word, neg_word = gap_rewards(wheels, labels, words, lambda word, wheel, c: word.slow_word - word.fast_word)
    margins = [
        margin(wheels, labels, [(word.text, getattr(word, mode)) for word in words]) for mode in ("slow", "fast")
    ]
    return Calibration(pos, neg, pos_word, neg_word, *margins, words, fast_ids)


def align(tokenizer: Any, response: list[int]) -> tuple[str, list[int], list[tuple[int, int, int, int]]]:
    """The response's text, its fast form's tokens, and of every word that counts: start and end in the text, the token
    it starts in, in the response and in the fast form.

    A repeated word counts at its first occurrence, whatever its case. A word without a token of its own does not count:
    one that starts in the token of the word before, or in the token in which `<answer>` starts.
    """
    # ends[n]: how many characters the first n tokens spell.
    ends = [len(tokenizer.decode(response[:n], skip_special_tokens=True)) for n in range(len(response) + 1)]
    text = tokenizer.decode(response, skip_special_tokens=True)

    def token_at(character: int) -> int:
        return max(n for n in range(len(response)) if ends[n] <= character)

    spans = parse(text).spans
    if not spans:
        return text, [], []
    # Eq. 8: the fast form is the emptied thought and the answer's own tokens. Where a token reaches from before
    # <answer> into it ("><"), its share of the answer is encoded anew, together with the emptied thought.
    opening = text.rindex("<answer>", 0, spans[0][0])
    first = token_at(opening)
    share = ""
    if ends[first] < opening:
        share = text[opening : ends[first + 1]]
        first += 1
    prefix = tokenizer.encode(EMPTIED_THOUGHT + share, add_special_tokens=False)
    starts, seen, taken = [], set(), set(range(first))
    for start, end in spans:
        word, at = text[start:end].lower(), token_at(start)
        if word not in seen and at not in taken:
            starts.append((start, end, at, len(prefix) + at - first))
        seen.add(word)
        taken.add(at)
    return text, prefix + response[first:], starts


@torch.no_grad()
def log_probs(policy: Any, processor: Any, encoded: Any, tokens: list[int]) -> torch.Tensor:
    """Eq. 8: row n is log π(· | prompt, the first n tokens), ``(len(tokens), vocabulary)``, float32."""
    ids = torch.tensor(encoded.prompt_ids + tokens)
    logits = policy(
        input_ids=ids[None],
        attention_mask=torch.ones_like(ids)[None],
        position_ids=position_ids(processor.rope, ids, encoded.inputs)[:, None],
        **encoded.inputs,
    ).logits[0]
    return logits.float().log_softmax(-1)[len(encoded.prompt_ids) - 1 : -1]


@lru_cache(maxsize=2)  # a minute for all words and forms, one by one
def category_tokens(tokenizer: Any, wheels: EmotionWheels) -> Tokens:
    """First tokens of the words that are mapped to each category, V(c) of Eq. 1, by wheel and category.

    A word begins with another token after another character and when capitalised. A token that words of several
    categories of a wheel begin with counts for each by its share of these words.
    """
    firsts: dict[str, set[int]] = {}
    for word in wheels.vocabulary:
        firsts[word] = set()
        for form in (word, word[0].upper() + word[1:]):
            for separator in SEPARATORS:
                token = tokenizer.encode(separator + form, add_special_tokens=False)[0]
                if tokenizer.decode([token]) != separator:
                    firsts[word].add(token)
    tokens: Tokens = {}
    for wheel in wheels.ids:
        counts = {category: Counter() for category in wheels.all_categories(wheel)}
        for word, first in firsts.items():
            if category := wheels.explain(word).wheels[wheel].level1:
                counts[category].update(first)
        tokens[wheel] = {
            category: {token: n / sum(other[token] for other in counts.values()) for token, n in own.items()}
            for category, own in counts.items()
        }
    return tokens


def confidences(log_p: torch.Tensor, tokens: Tokens, wheels: EmotionWheels, word: str, sampled: int) -> Confidence:
    """Eq. 1: conf(c) = log Σ p(e) at one position, of every category; NaN for a category without tokens.

    The sampled token counts in full for the categories of the word that begins with it.
    """
    conf: Confidence = {}
    for wheel, categories in tokens.items():
        conf[wheel] = {}
        for category, own in categories.items():
            shares = dict(own)
            if wheels.category(word, wheel) == category:
                shares[sampled] = 1.0
            mass = [log_p[token].item() + math.log(share) for token, share in shares.items()]
            conf[wheel][category] = max(FLOOR, torch.tensor(mass).logsumexp(0).item()) if mass else math.nan
    return conf


def gap_rewards(wheels: EmotionWheels, labels: list[str], words: list[Word], gap: Any) -> tuple[float, float]:
    """Eq. 9 to 11: R⁺ and R⁻, the means over the wheels on which they are defined; ``gap(word, wheel, c)`` is Δ."""
    pos, neg = [], []
    for wheel in wheels.ids:
        truth = wheels.categories(labels, wheel)
        if not truth:
            continue
        correct, incorrect = [], []
        for word in words:
            category = wheels.category(word.text, wheel)
            if category is not None:
                delta = gap(word, wheel, category)  # Eq. 9
                (correct if category in truth else incorrect).append(delta)  # Eq. 10
        pos.append(defined_mean(correct))  # Eq. 11
        neg.append(-defined_mean(incorrect))
    return defined_mean(pos), defined_mean(neg)


def margin(wheels: EmotionWheels, labels: list[str], words: list[tuple[str, Confidence]]) -> float:
    """Eq. 2: mean confidence of the true categories minus that of the three likeliest others; mean over the wheels.

    `words` are those that count, in order; a wheel is read at the first one that it maps.
    """
    margins = []
    for wheel in wheels.ids:
        truth = wheels.categories(labels, wheel)
        conf = next((found for word, found in words if wheels.category(word, wheel) is not None), None)
        if conf is None:
            continue
        right = [value for category, value in conf[wheel].items() if category in truth]
        wrong = [value for category, value in conf[wheel].items() if category not in truth and not math.isnan(value)]
        margins.append(defined_mean(right) - defined_mean(sorted(wrong)[-HARD_NEGATIVES:]))
    return defined_mean(margins)


def defined_mean(values: list[float]) -> float:
    """Mean of the values that are not NaN; NaN where there are none."""
    defined = [value for value in values if not math.isnan(value)]
    return fmean(defined) if defined else math.nan
