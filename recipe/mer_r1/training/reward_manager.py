"""verl's reward manager for emotion answers: decodes a response, scores it on the wheels (Eq. 4), weighs the scores."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig
from verl import DataProto
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from recipe.mer_r1.method.answer import labels_of, parse
from recipe.mer_r1.method.reward import score_answer
from recipe.mer_r1.method.wheel import load_wheels


class EmotionRewardManager(RewardManagerBase):
    """Holds the emotion wheels, one copy a reward worker.

    ``mer_r1.reward`` weighs the named scores into the scalar that verl reports; all scores travel on as
    ``reward_extra_info``, and the terms of the advantage are made of those.
    """

    def __init__(self, config: DictConfig, tokenizer: Any, compute_score: Any, **_: Any):
        super().__init__(config, tokenizer, compute_score)
        self.wheels = load_wheels(config.mer_r1.wheels.folder)
        self.form: str = config.mer_r1.form
        self.weights: dict[str, float] = dict(config.mer_r1.reward)
        self.min_thought_tokens: int = config.mer_r1.min_thought_tokens

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """Score the last sequence of a trajectory.

        Returns:
            ``reward_score`` (the weighted sum) and ``reward_extra_info``: the fields of :class:`Scores`, ``num_words``,
            ``thought_tokens``, and, as text, ``truth`` and ``predicted``, the categories of labels and answer on all
            wheels, and ``clip``, its name in the shard.
        """
        item = data[-1]
        length = int(item.batch["attention_mask"][-item.batch["responses"].shape[-1] :].sum())
        text = self.tokenizer.decode(item.batch["responses"][:length], skip_special_tokens=True)
        prefix = item.non_tensor_batch.get("response_prefix") or ""
        answer = parse(prefix + text, self.form)
        labels = labels_of(item.non_tensor_batch["reward_model"])
        scores = asdict(score_answer(answer, labels, self.wheels))
        thought_tokens = len(self.tokenizer.encode(answer.think, add_special_tokens=False))
        # A thought that the prompt itself has emptied (fast thinking) is not the policy's.
        if thought_tokens < self.min_thought_tokens and "</think>" not in prefix:
            scores["format"] = 0.0
        reward = sum(weight * scores[name] for name, weight in self.weights.items())
        # Text, because verl averages every number of a validation over the clips.
        texts = {"truth": self._categories(labels), "predicted": self._categories(answer.words)}
        texts["clip"] = (item.non_tensor_batch.get("extra_info") or {}).get("name") or ""
        return {
            "reward_score": reward,
            "reward_extra_info": {
                **scores,
                "num_words": len(answer.words),
                "thought_tokens": thought_tokens,
                **texts,
            },
        }

    def _categories(self, words: list[str]) -> str:
        """``w1/happy w2/happy …``."""
        names = ((wheel, sorted(self.wheels.categories(words, wheel))) for wheel in self.wheels.ids)
        return " ".join(f"{wheel}/{category}" for wheel, found in names for category in found)
