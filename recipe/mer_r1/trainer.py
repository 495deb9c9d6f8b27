"""verl's V1 trainer with the steps that this recipe overrides; nothing of verl's loop is copied."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import PPOTrainerSync, register_trainer

from recipe.mer_r1 import steps

# Scores of the reward manager that are averaged into every step's metrics.
SCORES = ("recall", "precision", "f1", "format", "wheels", "num_words")
PREFIX = "mer_r1_"


class MerTrainerMixin:
    """For any of verl's V1 trainers. Adds the reward's components and the rollout-actor gap to the metrics;
    writes the final model."""

    @property
    def trainer_mode(self) -> str:
        """verl's own name of the mode: it branches on it. Ours carries the prefix ``mer_r1_``."""
        return self._verl_mode

    @trainer_mode.setter
    def trainer_mode(self, name: str) -> None:
        self._verl_mode = name.removeprefix(PREFIX)

    def fit(self, agent_loop_manager: Any) -> None:
        steps.keep_until(Path(os.environ["VERL_FILE_LOGGER_PATH"]), self.global_steps)
        super().fit(agent_loop_manager)

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        batch = super()._compute_old_log_prob(batch, metrics)
        fields = ["rollout_log_probs", "old_log_probs", "response_mask"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        # Nested (responses, tokens); verl itself reports the difference of probabilities, not of their logs.
        gap = (data["rollout_log_probs"].values() - data["old_log_probs"].values()).abs()
        gap = gap[data["response_mask"].values().bool()]
        metrics["rollout_actor_log_prob_diff/max"] = gap.max().item()
        metrics["rollout_actor_log_prob_diff/mean"] = gap.mean().item()
        return batch

    def _save_checkpoint(self) -> None:
        super()._save_checkpoint()
        if self.global_steps >= self.total_training_steps:
            from verl_ext.omni.export import export

            step_folder = Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}"
            print(f"model: {export(step_folder / 'actor', Path(self.config.run_dir) / 'model')}")

    def _compute_metrics(
        self, batch: KVBatchMeta, metrics: dict[str, Any], timing_raw: dict[str, float], global_steps: int, epoch: int
    ) -> None:
        super()._compute_metrics(batch, metrics, timing_raw, global_steps=global_steps, epoch=epoch)
        keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
        data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=["extra_fields"])
        # A list, a stack or an array, as the storage backend likes.
        scores = [getattr(extra, "data", extra)["reward_extra_info"] for extra in data["extra_fields"]]
        for name in SCORES:
            metrics[f"reward/{name}"] = float(np.mean([score[name] for score in scores]))


@register_trainer(f"{PREFIX}sync")
class MerTrainerSync(MerTrainerMixin, PPOTrainerSync):
    """Rollout and training alternate on the same devices."""
