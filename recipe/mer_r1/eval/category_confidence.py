"""Category log-confidence (Eq. 1) of a saved model's answers, as the trainer's engine reads it but without the trainer.

A response is read twice, each time where its answer's words begin: as it stands, and with its thought emptied (Eq. 8).
For a slow response these are the paper's slow and fast mode of one answer, whose difference is Δ (Eq. 9); for a fast
one, whose thought is empty, they are the same. The paper's Figures 3 and 5 (c, d) compare what a model says slow with
what it says fast: each answer of its own, as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from transformers import AutoConfig, AutoProcessor
from verl.utils.torch_dtypes import PrecisionType

from recipe.mer_r1.method.alignment import align
from recipe.mer_r1.method.answer import FAST_PREFIX
from recipe.mer_r1.method.confidence import Calibration, calibrate
from recipe.mer_r1.method.token_sets import SharedTokens, category_sets
from recipe.mer_r1.method.wheel import EmotionWheels
from verl_ext.actor.set_log_probs import TokenSets, set_log_probs
from verl_ext.data.dataset import build_messages
from verl_ext.data.encode import EncodedPrompt, MediaConfig, PromptEncoder
from verl_ext.models.model import Qwen2_5OmniThinkerPolicy
from verl_ext.models.processor import bind
from verl_ext.models.rope import position_ids


@dataclass(frozen=True)
class FormConfidence:
    """One form of an answer, in nats, read where the first word begins that the wheel maps (as Eq. 2 is).

    Attributes:
        categories: conf(c) (Eq. 1) by wheel and category; None for a category without tokens; a wheel that maps no
            word of the answer is left out.
        truth: conf_gt (Eq. 2), the mean over the true categories, then over the wheels; NaN where undefined: an answer
            without words, labels that map on no wheel.
        negatives: conf_neg, the same of the three likeliest other categories.
        margin: γ, their difference.
    """

    categories: dict[str, dict[str, float | None]]
    truth: float
    negatives: float
    margin: float


@dataclass(frozen=True)
class ClipConfidence:
    """A response to one clip.

    Attributes:
        own: the response as it stands.
        emptied: the same answer behind an emptied thought; equal to `own` for a fast response.
        words: all words of the answer, each with its confidences in both forms
            (:meth:`recipe.mer_r1.method.confidence.Calibration.words_json`, "slow" being `own` and "fast" `emptied`).
        signals: R⁺ and R⁻ (Eq. 11) by name, NaN where undefined.
    """

    own: FormConfidence
    emptied: FormConfidence
    words: list[dict[str, Any]]
    signals: dict[str, float]


class ConfidenceReader:
    """A Thinker in transformers, in the actor's precision.

    Args:
        model: full-Omni folder.
        preset: the `preset` node of a configuration: `device`, `attention`, `mixed_precision.param_dtype` and `media`
            are read.
        wheels: whose level-1 categories are read.
        shared_tokens, floor: as `mer_r1.confidence` has them in conf/ppo.yaml.
    """

    def __init__(
        self,
        model: str,
        preset: DictConfig,
        wheels: EmotionWheels,
        shared_tokens: SharedTokens = "split",
        floor: float = -20.0,
    ):
        self.processor = bind(AutoProcessor.from_pretrained(model), AutoConfig.from_pretrained(model))
        self.tokenizer = self.processor.tokenizer
        media = MediaConfig.from_config(OmegaConf.to_container(preset.media, resolve=True))
        self.prefix_ids = self.tokenizer.encode(FAST_PREFIX, add_special_tokens=False)
        self.encoder = PromptEncoder(self.processor, media, cache_size=1)
        self.wheels, self.floor, self.device = wheels, floor, preset.device
        self.sets = category_sets(wheels, self.tokenizer, shared_tokens)
        self._token_sets = TokenSets.from_lists(self.sets.token_ids, self.sets.shares, preset.device)
        self._dtype = PrecisionType.to_dtype(preset.mixed_precision.param_dtype)
        policy = Qwen2_5OmniThinkerPolicy.from_pretrained(
            model, dtype=self._dtype, attn_implementation=preset.attention
        )
        self.policy = policy.eval().to(preset.device)

    def __call__(self, row: Mapping[str, Any], response: str) -> ClipConfidence:
        """Read a response to a row of a shard (verl's columns).

        Args:
            response: slow, or fast with its empty thought (`<think></think><answer>…`), as `main_eval run` saves
                it.

        Raises:
            MediaError: a clip is missing or cannot be decoded.
            FloatingPointError: the model's masses are NaN; names the clip.
        """
        try:
            return self.of_tokens(
                self.encoder(build_messages(row)), self.tokens(response), row["reward_model"]["ground_truth"]
            )
        except FloatingPointError as error:
            raise FloatingPointError(f"clip {row['extra_info']['name']!r}: {error}") from error

    def tokens(self, response: str) -> list[int]:
        """A response's tokens. The fast form's beginning is part of the prompt for vLLM, and encoded alone."""
        rest = self.tokenizer.encode(response.removeprefix(FAST_PREFIX), add_special_tokens=False)
        return self.prefix_ids + rest if response.startswith(FAST_PREFIX) else rest

    def of_tokens(self, encoded: EncodedPrompt, response: Sequence[int], labels: Sequence[str]) -> ClipConfidence:
        """Read a response in tokens (sampled, say) to an encoded prompt with these true words."""
        aligned = align(response, self.tokenizer)
        placed = [word for word in aligned.words if word.slow is not None]
        own = self._rows(encoded, response, [word.slow for word in placed])
        emptied = own
        if aligned.branch_ids != list(response[: len(aligned.branch_ids)]):
            emptied = self._rows(encoded, aligned.branch_ids, [word.fast for word in placed])
        found = calibrate(aligned.words, own, emptied, labels, self.wheels, self.sets, self.floor)
        words = found.words_json()
        forms = (_form(found, words, mode, self.wheels) for mode in ("slow", "fast"))
        return ClipConfidence(*forms, words, found.signals)

    @torch.no_grad()
    def _rows(self, encoded: EncodedPrompt, continuation: Sequence[int], places: Sequence[int]) -> torch.Tensor:
        """``(n, S + 1)`` float32: log-masses of the S sets and the token's own log-prob at places of a continuation."""
        if not places:
            return torch.zeros(0, len(self.sets.names) + 1)
        prompt = len(encoded.prompt_ids)
        # Behind the last place there is nothing to read.
        ids = torch.tensor([*encoded.prompt_ids, *continuation[: max(places) + 1]])
        inputs = {
            "input_ids": ids[None],
            "attention_mask": torch.ones_like(ids)[None],
            "position_ids": position_ids(self.processor.rope, ids, encoded.inputs)[:, None],
            **encoded.inputs,
        }
        inputs = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        with torch.autocast(self.device, self._dtype, enabled=self._dtype != torch.float32):  # as the engine
            logits = self.policy(**inputs, use_cache=False).logits[0]
        at = torch.tensor(places, device=self.device) + prompt
        rows = set_log_probs(logits[at - 1], inputs["input_ids"][0, at], self._token_sets).cpu()
        if rows.isnan().any():
            raise FloatingPointError("the model's category probabilities are NaN; use an earlier checkpoint")
        return rows


def _form(found: Calibration, words: Sequence[Mapping[str, Any]], mode: str, wheels: EmotionWheels) -> FormConfidence:
    categories = {}
    for wheel in wheels.ids:
        mapped = (word for word in words if word["counted"] and wheels.category(word["word"], wheel) is not None)
        if first := next(mapped, None):
            categories[wheel] = first[mode][wheel]
    return FormConfidence(categories, *(found.margins[f"{part}_{mode}"] for part in ("gt", "neg", "margin")))
