"""The model behind the page: greedy answers by vLLM, confidences by transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from recipe.mer_r1.eval.ask import ask
from recipe.mer_r1.eval.category_confidence import ConfidenceReader
from recipe.mer_r1.eval.demo_page.view import LogConfidence
from recipe.mer_r1.eval.rollout import Reply, Rollout
from recipe.mer_r1.method.wheel import EmotionWheels


class Answering:
    """A model that answers one clip at a time.

    Args:
        model: full-Omni folder.
        preset: the `preset` node of a configuration.
        wheels: whose categories' confidence is read.
    """

    def __init__(self, model: str, preset: DictConfig, wheels: EmotionWheels) -> None:
        self.use_audio_in_video = bool(preset.media.use_audio_in_video)
        self._reader = ConfidenceReader(model, preset, wheels)
        self._rollout = Rollout(model, preset, preset.max_response_length)

    def answers(self, row: Mapping[str, Any]) -> dict[str, Reply]:
        """Both replies to a shard's row, as `main_eval run` makes them.

        Raises:
            MediaError: a clip is missing or cannot be decoded.
            TooLongError: names the clip and the limit.
        """
        return ask(self._rollout, row)

    def confidence(self, row: Mapping[str, Any], replies: Mapping[str, Reply]) -> dict[str, LogConfidence]:
        """Each reply's own, as it stands, where its first word begins; a reply without words is left out.

        Raises:
            FloatingPointError: the model's masses are NaN.
        """
        found = {form: self._reader(row, reply.text).own.categories for form, reply in replies.items()}
        return {form: categories for form, categories in found.items() if categories}
