"""The trainer's side of slow-fast confidence: asks the log-prob pass for category masses, makes signals of them.

A response's words are aligned with its tokens here, on the controller; the actor engine
(:mod:`verl_ext.actor.engine`) then reads the mass of every category of every wheel where each word starts, in the
response (slow) and in a branch of the same prompt whose thought is emptied (fast, Eq. 8).
"""

from __future__ import annotations

from typing import Any

import torch
import transfer_queue as tq
from omegaconf import DictConfig
from tensordict import TensorDict
from transfer_queue import KVBatchMeta

from recipe.mer_r1.method.alignment import Aligned, align
from recipe.mer_r1.method.confidence import Calibration, calibrate
from recipe.mer_r1.method.token_sets import category_sets
from recipe.mer_r1.method.wheel import EmotionWheels
from verl_ext.actor.branch import BRANCH_IDS
from verl_ext.actor.engine import BRANCH_SET_LOG_PROBS, SET_LOG_PROBS
from verl_ext.actor.kept_forward import KEEP_FORWARDS
from verl_ext.actor.micro_batch import BRANCH_SET_POSITIONS, SET_POSITIONS, TOKEN_SETS, TOKEN_SHARES


class ConfidencePass:
    """One a run. ``request`` before the actor's log-prob pass, ``collect`` after it.

    Args:
        tokenizer: of the policy.
        wheels: whose level-1 categories are read (Eq. 1).
        settings: ``mer_r1.confidence``.
        keep_forwards: the most micro-batches whose forward the update shall use again
            (:mod:`verl_ext.actor.kept_forward`).
    """

    def __init__(self, tokenizer: Any, wheels: EmotionWheels, settings: DictConfig, keep_forwards: int = 0):
        self.tokenizer, self.wheels, self.settings = tokenizer, wheels, settings
        self.keep_forwards = keep_forwards
        self.sets = category_sets(wheels, tokenizer, settings.shared_tokens)
        self._aligned: dict[str, Aligned] = {}

    def request(self, batch: KVBatchMeta) -> KVBatchMeta:
        """Store each response's branch and word positions, and ask for the sets."""
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["responses"])
        fields: dict[str, list[list[int]]] = {BRANCH_IDS: [], SET_POSITIONS: [], BRANCH_SET_POSITIONS: []}
        self._aligned = {}
        for key, response in zip(batch.keys, data["responses"].unbind(), strict=True):
            ids = response.tolist()
            aligned = self._aligned[key] = align(ids, self.tokenizer)
            placed = [word for word in aligned.words if word.slow is not None]
            # The engine wants a place and a branch for every response; those of a response without words are not read.
            fields[BRANCH_IDS].append(aligned.branch_ids if placed else ids[:1])
            fields[SET_POSITIONS].append([word.slow for word in placed] or [0])
            fields[BRANCH_SET_POSITIONS].append([word.fast for word in placed] or [0])
        jagged = {
            name: torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)
            for name, rows in fields.items()
        }
        stored = tq.kv_batch_put(
            keys=batch.keys, partition_id=batch.partition_id, fields=TensorDict(jagged, batch_size=len(batch))
        )
        extra = {**batch.extra_info, TOKEN_SETS: self.sets.token_ids, TOKEN_SHARES: self.sets.shares}
        if self.keep_forwards:
            extra[KEEP_FORWARDS] = self.keep_forwards
        return KVBatchMeta(
            keys=batch.keys,
            tags=batch.tags,
            partition_id=batch.partition_id,
            fields=stored.fields,
            extra_info=extra,
        )

    def collect(self, batch: KVBatchMeta) -> dict[str, Calibration]:
        """Calibration (Eq. 9 to 11, and Eq. 2's margin) of every response by key."""
        # Where verl hands the same batch on (bypass mode), the reference's pass and the update must not ask again.
        for name in (TOKEN_SETS, TOKEN_SHARES, KEEP_FORWARDS):
            batch.extra_info.pop(name, None)
        fields = [SET_LOG_PROBS, BRANCH_SET_LOG_PROBS, "reward_model"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        columns = len(self.sets.token_ids) + 1
        found = {}
        rows = zip(
            batch.keys,
            data[SET_LOG_PROBS].unbind(),
            data[BRANCH_SET_LOG_PROBS].unbind(),
            data["reward_model"],
            strict=True,
        )
        for key, slow, fast, truth in rows:
            if slow.isnan().any() or fast.isnan().any():
                raise FloatingPointError(
                    f"response {key}: the actor's category probabilities are NaN, so its logits are NaN: the policy "
                    "diverged. Resume from an earlier checkpoint with a smaller actor_rollout_ref.actor.optim.lr."
                )
            words = self._aligned[key].words
            count = sum(word.slow is not None for word in words)
            found[key] = calibrate(
                words,
                slow.view(-1, columns)[:count],
                fast.view(-1, columns)[:count],
                getattr(truth, "data", truth)["ground_truth"],
                self.wheels,
                self.sets,
                floor=self.settings.floor,
            )
        return found

    def run_alone(self, batch: KVBatchMeta, actor: Any) -> None:
        """The actor's pass for the masses alone, where verl makes none (``rollout_correction.bypass_mode``)."""
        batch.extra_info |= {"calculate_entropy": False, "compute_loss": False, "temperature": 1.0}
        actor.compute_log_prob(batch)

    def __str__(self) -> str:
        return f"{self.wheels.name} wheels: {self.sets}"
