"""verl's V1 trainer with the steps that this recipe overrides; nothing of verl's loop is copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import PPOTrainerSync, register_trainer

from recipe.mer_r1 import steps
from verl_ext.omni.export import export

# Scores of the reward manager that are averaged into every step's metrics.
SCORES = ("recall", "precision", "f1", "format", "wheels", "num_words")
PREFIX = "mer_r1_"


class MissingResponsesError(RuntimeError):
    """Clips failed in the agent loop; verl would pad the batch and go on."""


class MerTrainerMixin:
    """For any of verl's V1 trainers.

    Adds the reward's components and the rollout-actor gap to the metrics, counts responses that are missing, keeps the
    metrics of a resumed run, and writes the final model.
    """

    @property
    def trainer_mode(self) -> str:
        """verl's own name of the mode: it branches on it. Ours carries the prefix ``mer_r1_``."""
        return self._verl_mode

    @trainer_mode.setter
    def trainer_mode(self, name: str) -> None:
        self._verl_mode = name.removeprefix(PREFIX)

    def fit(self, agent_loop_manager: Any) -> None:
        run_dir = Path(self.config.run_dir)
        steps.keep_until(run_dir / "metrics.jsonl", self.global_steps)
        super().fit(agent_loop_manager)
        self._export(run_dir / "model")

    def _export(self, out: Path) -> None:
        """Write the newest checkpoint as a folder that transformers and vLLM load, unless that was done."""
        checkpoints = Path(self.config.trainer.default_local_dir)
        newest = checkpoints / "latest_checkpointed_iteration.txt"
        written = out / "config.json"
        if not written.exists() or written.stat().st_mtime < newest.stat().st_mtime:
            export(checkpoints / f"global_step_{newest.read_text().strip()}" / "actor", out)
        print(f"model: {out}")

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        prompts = self.config.data.train_batch_size // self.parameter_sync_step
        expected = prompts * self.config.actor_rollout_ref.rollout.n
        metrics["reward/missing"] = self._check_missing(expected - len(_real_keys(batch)), expected)
        batch = super()._compute_old_log_prob(batch, metrics)
        fields = ["rollout_log_probs", "old_log_probs", "response_mask"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        # Nested (responses, tokens); verl itself reports the difference of probabilities, not of their logs.
        gap = (data["rollout_log_probs"].values() - data["old_log_probs"].values()).abs()
        gap = gap[data["response_mask"].values().bool()]
        metrics["rollout_actor_log_prob_diff/max"] = gap.max().item()
        metrics["rollout_actor_log_prob_diff/mean"] = gap.mean().item()
        return batch

    def _val_metrics_update(
        self, data_sources: Any, sample_uids: list[str], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        expected = len(self.val_dataset) * self.config.actor_rollout_ref.rollout.val_kwargs.n
        missing = self._check_missing(expected - len(sample_uids), expected)
        return super()._val_metrics_update(data_sources, sample_uids, *args, **kwargs) | {"val-aux/missing": missing}

    def _check_missing(self, missing: int, expected: int) -> int:
        share = self.config.mer_r1.max_missing_share
        if missing > share * expected:
            raise MissingResponsesError(
                f"{missing} of {expected} responses are missing: their clips failed. The cause and the file stand "
                "above (Error in _run_prompt). Mend or drop the clips, or allow a share of them with "
                "mer_r1.max_missing_share."
            )
        return missing

    def _compute_metrics(
        self, batch: KVBatchMeta, metrics: dict[str, Any], timing_raw: dict[str, float], global_steps: int, epoch: int
    ) -> None:
        super()._compute_metrics(batch, metrics, timing_raw, global_steps=global_steps, epoch=epoch)
        data = tq.kv_batch_get(keys=_real_keys(batch), partition_id=batch.partition_id, select_fields=["extra_fields"])
        # A list, a stack or an array, as the storage backend likes.
        scores = [getattr(extra, "data", extra)["reward_extra_info"] for extra in data["extra_fields"]]
        for name in SCORES:
            metrics[f"reward/{name}"] = float(np.mean([score[name] for score in scores]))


def _real_keys(batch: KVBatchMeta) -> list[str]:
    """Keys of the batch without the responses that verl adds to fill a mini-batch."""
    return [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]


@register_trainer(f"{PREFIX}sync")
class MerTrainerSync(MerTrainerMixin, PPOTrainerSync):
    """Rollout and training alternate on the same devices."""
