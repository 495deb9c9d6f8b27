"""Loaded by ms-swift (`--external_plugins`): the recipe's reward, and a metrics file with the times of each step.

It runs in .venv-peers, with this repository in PYTHONPATH. $PEER_METRICS names the metrics file. The file has verl's
form: one line ``{"step": …, "data": {"timing_s/gen": …}}`` per step.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from swift.callbacks import callbacks_map
from swift.callbacks.base import TrainerCallback
from swift.rewards.orm import ORM, orms

from recipe.mer_r1.method.reward import score_response
from recipe.mer_r1.method.wheel import load_wheels


class EmotionReward(ORM):
    """F1 on the built-in emotion wheels plus format, as `experiment=baseline`."""

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self.wheels = load_wheels(None)

    def __call__(self, completions: list[str], solution: list[list[str]], **_: Any) -> list[float]:
        """Args:
        completions: the responses.
        solution: the labels of each response's clip.
        """
        scores = [score_response(text, labels, self.wheels) for text, labels in zip(completions, solution, strict=True)]
        return [score.f1 + score.format for score in scores]


class StepTimes(TrainerCallback):
    """Times the trainer's methods. A step lasts from the end of the one before it to its own end.

    gen: the rollout with its media. encode: media and text for training. old_log_prob, ref: the two passes without
    gradients. update_actor: everything after the batch is ready. The rest of a step is reward, advantage and logs.
    """

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        trainer = self.trainer
        self.file = open(os.environ["PEER_METRICS"], "w", buffering=1)  # noqa: SIM115 - until the process ends
        self.seconds: dict[str, float] = defaultdict(float)
        self.tokens, self.preparing = 0, False
        trainer._generate_and_score_completions = self._timed(trainer._generate_and_score_completions, "rollout")
        trainer._generate_completions = self._timed(trainer._generate_completions, "gen")
        trainer._prepare_batch_inputs = self._timed(self._prepared(trainer._prepare_batch_inputs), "prepare")
        trainer._get_per_token_logps_and_entropies = self._pass(trainer._get_per_token_logps_and_entropies)
        self.begin = time.perf_counter()

    def on_step_end(self, _arguments: Any, state: Any, *_: Any, **__: Any) -> None:
        now = time.perf_counter()
        step, took = now - self.begin, self.seconds
        data = {
            "timing_s/gen": took["gen"],
            "timing_s/encode": took["prepare"] - took["old_log_prob"] - took["ref"],
            "timing_s/old_log_prob": took["old_log_prob"],
            "timing_s/ref": took["ref"],
            "timing_s/update_actor": step - took["rollout"],
            "timing_s/step": step,
            "perf/total_num_tokens": self.tokens,
        }
        self.file.write(json.dumps({"step": state.global_step, "data": data}) + "\n")
        self.begin, self.tokens = now, 0
        took.clear()

    def _timed(self, method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            try:
                return method(*arguments, **named)
            finally:
                self.seconds[name] += time.perf_counter() - begin

        return timed

    def _prepared(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Also counts the tokens of the batch, without padding."""

        def prepared(*arguments: Any, **named: Any) -> Any:
            self.preparing = True
            try:
                batches = method(*arguments, **named)
            finally:
                self.preparing = False
            self.tokens += sum(int(batch["model_inputs"]["attention_mask"].sum()) for batch in batches)
            return batches

        return prepared

    def _pass(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """A pass belongs to a phase of its own only while the batch is prepared; the update calls the method, too."""

        def one(model: Any, *arguments: Any, **named: Any) -> Any:
            if not self.preparing:
                return method(model, *arguments, **named)
            name = "ref" if model is self.trainer.ref_model else "old_log_prob"
            return self._timed(method, name)(model, *arguments, **named)

        return one


orms["emotion"] = EmotionReward
callbacks_map["step_times"] = StepTimes
