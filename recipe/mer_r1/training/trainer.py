"""verl's V1 trainers with the steps that this recipe overrides; nothing of verl's loop is copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import PPOTrainerColocateAsync, PPOTrainerSeparateAsync, PPOTrainerSync, register_trainer

from recipe.mer_r1.method.confidence import Calibration, batch_metrics
from recipe.mer_r1.method.experiments import reads_confidence
from recipe.mer_r1.method.signals import (
    CONFIDENCE_SIGNALS,
    REWARD_SIGNALS,
    category_counts,
    category_metrics,
    shuffle_in_groups,
    stack,
)
from recipe.mer_r1.method.wheel import load_wheels
from recipe.mer_r1.run import checkpoint, learning, steps
from recipe.mer_r1.run.on_policy import UPDATE, keeps_forwards
from recipe.mer_r1.run.stop import StopMixin
from recipe.mer_r1.training import estimator, on_policy, staleness
from recipe.mer_r1.training.confidence_pass import ConfidencePass
from recipe.mer_r1.training.order import OrderMixin
from recipe.mer_r1.training.rollout_file import RolloutRows
from verl_ext.models.export import export

# Scores of the reward manager that are averaged into every step's metrics.
SCORES = ("recall", "precision", "f1", "format", "wheels", "num_words", "thought_tokens")
SHORT_THOUGHT = 5
"""Tokens; a thought of fewer is counted as short."""
PREFIX = "mer_r1_"


class MissingResponsesError(RuntimeError):
    """Clips failed in the agent loop; verl would pad the batch and go on."""


class MerTrainerMixin(StopMixin, checkpoint.CheckpointMixin, OrderMixin):
    """For any of verl's V1 trainers.

    Gives the registered estimator the signals it combines (Eq. 5, 12), with the slow-fast confidence of Eq. 9 to 11
    read in the actor's log-prob pass where a term needs it; leaves that pass out where the update's own log-probs are
    those of π_old; adds the reward's components and the rollout-actor gap to the metrics, counts responses that are
    missing, keeps the metrics of a resumed run, stops when asked to, and writes the final model.
    """

    _confidence: ConfidencePass | None = None
    _calibrations: Mapping[str, Calibration] = MappingProxyType({})
    """Of the batch in hand, by key."""

    @property
    def trainer_mode(self) -> str:
        """verl's own name of the mode: it branches on it. Ours carries the prefix ``mer_r1_``."""
        return self._verl_mode

    @trainer_mode.setter
    def trainer_mode(self, name: str) -> None:
        self._verl_mode = name.removeprefix(PREFIX)

    def init(self) -> None:
        super().init()
        settings = self.config.mer_r1
        self._rows = RolloutRows(keep=bool(self.config.trainer.get("rollout_data_dir")))
        self._old_in_update = settings.old_log_probs == UPDATE
        if self._old_in_update:
            self.actor_rollout_wg.set_loss_fn(on_policy.loss_of(self.config.actor_rollout_ref.actor))
        if reads_confidence(self.config):
            wheels = load_wheels(settings.wheels.folder)
            keep = keeps_forwards(self.config)
            self._confidence = ConfidencePass(self.tokenizer, wheels, settings.confidence, keep)
            print(f"slow-fast confidence: {self._confidence}")

    def fit(self, agent_loop_manager: Any) -> None:
        run_dir = Path(self.config.run_dir)
        file = run_dir / "metrics.jsonl"
        steps.keep_until(file, self.global_steps)
        self._watch = learning.Watch(steps.read(file))
        super().fit(agent_loop_manager)
        if not self.stopped:
            self._export(run_dir / "model")

    def _export(self, out: Path) -> None:
        """Write the newest checkpoint as a folder that transformers and vLLM load, unless that was done."""
        newest = checkpoint.newest(Path(self.config.trainer.default_local_dir))
        written = out / "config.json"
        if not written.exists() or written.stat().st_mtime < newest.stat().st_mtime:
            export(newest / "actor", out)
        print(f"model: {out}")

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        prompts = self.config.data.train_batch_size // self.parameter_sync_step
        expected = prompts * self.config.actor_rollout_ref.rollout.n
        # verl's async trainers replace a prompt whose clip failed by another one.
        replaced = metrics.get("training/rollout_failure/evicted_samples", 0) * self.config.actor_rollout_ref.rollout.n
        metrics["reward/missing"] = self._check_missing(expected - len(_real_keys(batch)) + replaced, expected)
        if self._old_in_update:
            actor, rollout = self.config.actor_rollout_ref.actor, self.config.actor_rollout_ref.rollout
            on_policy.check_one_update(len(batch.keys), actor.ppo_mini_batch_size * rollout.n)
            return batch
        if self._confidence:
            batch = self._confidence.request(batch)
        batch = super()._compute_old_log_prob(batch, metrics)
        if self._confidence:
            if (self.config.algorithm.get("rollout_correction") or {}).get("bypass_mode", False):
                self._confidence.run_alone(batch, self.actor_rollout_wg)  # verl skipped the actor's log-prob pass
            self._calibrations = self._confidence.collect(batch)
            metrics.update(batch_metrics([self._calibrations[key] for key in _real_keys(batch)]))
        fields = ["rollout_log_probs", "old_log_probs", "response_mask"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        # verl itself reports the difference of probabilities, not of their logs.
        lag = None if self.trainer_mode == "sync" else staleness.lags(batch.tags, self.global_steps)
        metrics.update(staleness.gap_metrics(*(data[name] for name in fields), lag))
        return batch

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        batch = super()._update_actor(batch, metrics)
        if self._old_in_update:
            loss_agg_mode = self.config.actor_rollout_ref.actor.loss_agg_mode
            on_policy.logged(metrics, loss_agg_mode, len(batch.keys), len(_real_keys(batch)))
        return batch

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        infos = self._reward_infos(batch)
        signals = stack(infos, REWARD_SIGNALS)
        if self._confidence:
            real = set(_real_keys(batch))
            rows = [self._calibrations[key].signals if key in real else None for key in batch.keys]
            signals |= self._confidence_signals(rows, batch.keys)
        with estimator.signals(signals) as report:
            batch = super()._compute_advantage(batch, metrics)
        metrics.update(report.metrics)
        known = [info for info in infos if info is not None]
        metrics.update({f"reward/{name}": float(np.mean([info[name] for info in known])) for name in SCORES})
        metrics.update(_thought_metrics([info["thought_tokens"] for info in known]))
        metrics["reward/answer_unknown"] = _unknown_share(*([i[name] for i in known] for name in _ANSWER))
        answers = [i["truth"] for i in known], [i["predicted"] for i in known]
        metrics.update({f"category/{name}": value for name, value in category_metrics(*answers).items()})
        metrics.update({f"reward/{name}": value for name, value in category_counts(*answers).items()})
        tokens = [tag["response_len"] for tag in batch.tags]
        self._rows.add(batch.keys, tokens, signals, report.result, self._calibrations)
        return batch

    def _compute_metrics(self, batch: KVBatchMeta, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super()._compute_metrics(batch, metrics, *args, **kwargs)
        self._watch.tell(metrics["training/global_step"], metrics)

    def _confidence_signals(self, rows: Sequence[Mapping[str, float] | None], keys: Sequence[str]) -> dict[str, Any]:
        """R⁺, R⁻ and their word forms; the control ``mer_r1.confidence.shuffle`` permutes them inside each group."""
        found = stack(rows, CONFIDENCE_SIGNALS)
        if not self.config.mer_r1.confidence.shuffle:
            return found
        prompts = [key.split("_")[0] for key in keys]
        return shuffle_in_groups(found, keys, prompts, (self.config.data.seed, self.global_steps))

    def _reward_infos(self, batch: KVBatchMeta) -> list[dict[str, Any] | None]:
        """What the reward manager said of each response; None for those that verl adds to fill a mini-batch."""
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["extra_fields"])
        real = set(_real_keys(batch))
        # A list, a stack or an array, as the storage backend likes.
        extras = [getattr(extra, "data", extra) for extra in data["extra_fields"]]
        return [
            extra["reward_extra_info"] if key in real else None for key, extra in zip(batch.keys, extras, strict=True)
        ]

    def _val_metrics_update(
        self, data_sources: Any, sample_uids: list[str], infos: dict[str, list[Any]], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        expected = len(self.val_dataset) * self.config.actor_rollout_ref.rollout.val_kwargs.n
        metrics = {"val-aux/missing": self._check_missing(expected - len(sample_uids), expected)}
        for source in sorted(set(data_sources)):
            chosen = [index for index, name in enumerate(data_sources) if name == source]
            truths, predictions = ([infos[name][index] for index in chosen] for name in ("truth", "predicted"))
            for name, value in category_metrics(truths, predictions).items():
                metrics[f"val-aux/{source}/category/{name}"] = value
            if "num_words" in infos:
                words, thoughts = ([infos[name][index] for index in chosen] for name in ("num_words", "thought_tokens"))
                metrics[f"val-aux/{source}/answer_unknown"] = _unknown_share(words, predictions)
                metrics[f"val-aux/{source}/thought_empty"] = _thought_metrics(thoughts)["reward/thought_empty"]
        return super()._val_metrics_update(data_sources, sample_uids, infos, *args, **kwargs) | metrics

    def _check_missing(self, missing: int, expected: int) -> int:
        share = self.config.mer_r1.max_missing_share
        if missing > share * expected:
            raise MissingResponsesError(
                f"{missing} of {expected} responses are missing, because their clips failed (in the output: Error in "
                "_run_prompt). Fix or drop the clips, or allow a share of missing responses with "
                "mer_r1.max_missing_share."
            )
        return missing

    def _log_rollout_data(self, batch: KVBatchMeta, *args: Any) -> None:
        real = [index for index, tag in enumerate(batch.tags) if not tag.get("is_padding", False)]
        batch = KVBatchMeta(
            keys=[batch.keys[index] for index in real],
            tags=[batch.tags[index] for index in real],
            partition_id=batch.partition_id,
        )
        super()._log_rollout_data(batch, *args)
        self._rows.clear()

    def _dump_generations(self, *, reward_extra_infos_dict: dict[str, list], dump_path: str, **columns: Any) -> None:
        if dump_path == self.config.trainer.get("rollout_data_dir"):
            reward_extra_infos_dict |= self._rows.columns(reward_extra_infos_dict["uid"])
        super()._dump_generations(reward_extra_infos_dict=reward_extra_infos_dict, dump_path=dump_path, **columns)


def _thought_metrics(tokens: Sequence[int]) -> dict[str, float]:
    """Shares of thoughts that are empty, and of short ones, empty ones included."""
    return {
        "reward/thought_empty": sum(number == 0 for number in tokens) / len(tokens),
        "reward/thought_short": sum(number < SHORT_THOUGHT for number in tokens) / len(tokens),
    }


_ANSWER = ("num_words", "predicted")


def _unknown_share(num_words: Sequence[int], predicted: Sequence[str]) -> float:
    """Share of answers that have words, but none that a wheel knows: they earn nothing, whatever they say."""
    return sum(bool(count) and not found for count, found in zip(num_words, predicted, strict=True)) / len(num_words)


def _real_keys(batch: KVBatchMeta) -> list[str]:
    """Keys of the batch without the responses that verl adds to fill a mini-batch."""
    return [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]


@register_trainer(f"{PREFIX}sync")
class MerTrainerSync(MerTrainerMixin, PPOTrainerSync):
    """Rollout and training alternate on the same devices."""


@register_trainer(f"{PREFIX}colocate_async")
class MerTrainerColocateAsync(MerTrainerMixin, PPOTrainerColocateAsync):
    """The same devices; long responses go on over a step's end."""


@register_trainer(f"{PREFIX}separate_async")
class MerTrainerSeparateAsync(MerTrainerMixin, PPOTrainerSeparateAsync):
    """Rollout and training on devices of their own."""
