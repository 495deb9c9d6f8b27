"""The trainer of benchmarks/calibration.py: the recipe's own, with the calibration on, off, or done naively by turns.

Imported by the run through ``mer_r1.plugins``.
"""

from __future__ import annotations

from typing import Any

import torch
import transfer_queue as tq
from calibration import MODE, way_of
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import register_trainer
from verl.utils import tensordict_utils as tu
from verl.utils.debug import marked_timer

from recipe.mer_r1.method.answer import FAST_PREFIX, parse
from recipe.mer_r1.method.signals import CONFIDENCE_SIGNALS
from recipe.mer_r1.training.trainer import MerTrainerSync
from verl_ext.data.encode import MediaConfig, PromptEncoder
from verl_ext.models.rope import position_ids


@register_trainer(MODE)
class CalibrationBenchmarkTrainer(MerTrainerSync):
    """Steps by turns: without the confidence pass, with it, and with a second batch through the data path instead."""

    @property
    def trainer_mode(self) -> str:
        return "sync"

    @trainer_mode.setter
    def trainer_mode(self, name: str) -> None:
        pass

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        way = way_of(self.global_steps)
        confidence = self._confidence
        if way != "mer_r1":
            self._confidence, self._calibrations = None, {}
        try:
            batch = super()._compute_old_log_prob(batch, metrics)
        finally:
            self._confidence = confidence
        if way == "naive":
            with marked_timer("second_batch", self.timing_raw):
                self._second_batch(batch)
        return batch

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        if not self._calibrations:
            nothing = dict.fromkeys(CONFIDENCE_SIGNALS, float("nan"))
            self._calibrations = {key: _Uncalibrated(nothing) for key in batch.keys}
        return super()._compute_advantage(batch, metrics)

    def _second_batch(self, batch: KVBatchMeta) -> None:
        """The fast forms as prompts of their own: decoded, processed, stored, and sent through the log-prob pass."""
        data = tq.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=["raw_prompt", "responses"]
        )
        encoder = PromptEncoder(self.processor, MediaConfig.from_config(self.config.data.media), cache_size=0)
        rows = []
        for messages, response in zip(data["raw_prompt"], data["responses"].unbind(), strict=True):
            encoded = encoder(list(getattr(messages, "data", messages)))
            words = parse(self.tokenizer.decode(response, skip_special_tokens=True)).words
            text = f"{FAST_PREFIX}{', '.join(words)}</answer>"
            ids = torch.tensor(self.tokenizer.encode(text, add_special_tokens=False))
            sequence = torch.cat([torch.tensor(encoded.prompt_ids), ids])
            rows.append(
                {
                    "responses": ids,
                    "loss_mask": torch.ones_like(ids),
                    "input_ids": sequence,
                    "position_ids": position_ids(self.processor.rope, sequence, encoded.inputs),
                    "multi_modal_inputs": encoded.inputs,
                }
            )
        keys = [f"naive-{key}" for key in batch.keys]
        fields: TensorDict = tu.list_of_dict_to_tensordict(rows)
        second = tq.kv_batch_put(keys=keys, partition_id="naive", fields=fields, tags=[{} for _ in keys])
        second.extra_info = {"calculate_entropy": False, "compute_loss": False, "temperature": 1.0}
        self.actor_rollout_wg.compute_log_prob(second)
        tq.kv_batch_get(keys=keys, partition_id="naive", select_fields=["log_probs"])
        tq.kv_clear(keys=keys, partition_id="naive")


class _Uncalibrated:
    """Stands for a response of a step without the pass: its terms are undefined, so they cost what they always do."""

    def __init__(self, signals: dict[str, float]):
        self.signals = signals
