"""A trainer's step without Ray: TransferQueue as a dict, and the actor's workers as a table of masses."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tensordict import NonTensorStack, TensorDict

OWN = {"slow": -15.0, "fast": -16.0}
"""Log-prob of every word's own token: it adds less than 1e-4 to a mass above -4."""
STEP = 0.01
"""By which a category's mass is smaller than that of the category before it: columns can be told apart."""


class Store:
    """TransferQueue's batch calls, put in place of the real ones; tensors come nested, also where lengths agree."""

    def __init__(self, monkeypatch: Any) -> None:
        import transfer_queue

        monkeypatch.setattr(transfer_queue, "kv_batch_get", self.get)
        monkeypatch.setattr(transfer_queue, "kv_batch_put", self.put)
        self.rows: dict[str, dict[str, Any]] = {}
        self.tags: dict[str, dict[str, Any]] = {}

    def get(self, keys: list[str], partition_id: str, select_fields: list[str] | None = None) -> TensorDict:
        names = select_fields or list(self.rows[keys[0]])
        there = [name for name in names if all(name in self.rows[key] for key in keys)]
        columns = {name: _column([self.rows[key][name] for key in keys]) for name in there}
        return TensorDict(columns, batch_size=[len(keys)])

    def put(self, keys: list[str], partition_id: str, fields: TensorDict, tags: list[dict] | None = None) -> Any:
        from transfer_queue import KVBatchMeta

        for name in fields.keys():  # noqa: SIM118  iterating a TensorDict gives its rows
            values = fields[name]
            rows = values.unbind() if isinstance(values, torch.Tensor) else list(values)
            for key, value in zip(keys, rows, strict=True):
                self.rows.setdefault(key, {})[name] = value
        self.tags |= dict(zip(keys, tags or (), strict=False))
        return KVBatchMeta(
            keys=keys,
            tags=[self.tags[key] for key in keys],
            partition_id=partition_id,
            fields=list(fields.keys()),
        )

    def add(self, tokenizer: Any, answers: Mapping[str, tuple[str, list[str]]], **columns: Mapping[str, Any]) -> Any:
        """Rows of finished responses, key → (text, labels); returns the batch as the replay buffer gives it."""
        from transfer_queue import KVBatchMeta

        for key, (text, labels) in answers.items():
            response = torch.tensor([*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id])
            prompt = torch.tensor(tokenizer.encode(f"What now, {key}?", add_special_tokens=False))
            scored = torch.zeros(len(response))
            ids = torch.cat([prompt, response])
            self.rows[key] = {
                "uid": key.split("_")[0],
                "prompts": prompt,
                "responses": response,
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),
                "position_ids": torch.arange(len(ids)),
                "response_mask": torch.ones_like(response),
                "rollout_log_probs": torch.full((len(response),), -0.5),
                "rm_scores": scored,
                "reward_model": {"ground_truth": labels},
                **{name: values[key] for name, values in columns.items()},
            }
            lengths = {"prompt_len": len(prompt), "response_len": len(response), "seq_len": len(ids)}
            self.tags[key] = {**lengths, "min_global_steps": 0, "max_global_steps": 0}
        keys = list(answers)
        return KVBatchMeta(
            keys=keys, tags=[self.tags[key] for key in keys], partition_id="train", extra_info={"temperature": 1.0}
        )


def _column(values: Sequence[Any]) -> Any:
    if not isinstance(values[0], torch.Tensor):
        return NonTensorStack(*values)
    if not values[0].dim():
        return torch.stack(list(values))
    return torch.nested.as_nested_tensor(list(values), layout=torch.jagged)


class Actor:
    """Answers a log-prob pass as the engine does: where it is asked for sets, with rows of the masses of `table`.

    Args:
        table: (key, text of the token at the place asked for) → mass of the first category, slow and fast.
    """

    def __init__(self, store: Store, tokenizer: Any, table: Mapping[tuple[str, str], tuple[float, float]]):
        self.store, self.tokenizer, self.table = store, tokenizer, table
        self.asked: list[dict[str, Any]] = []
        self.loss_fn: Any = None
        self.update_metrics: dict[str, Any] = {}
        self._dispatch_info = {"actor": [0]}

    def set_loss_fn(self, loss_fn: Any) -> None:
        self.loss_fn = loss_fn

    def update_actor(self, batch: Any) -> dict[str, Any]:
        """Returns the metrics that a test has put here."""
        return {"metrics": {"mfu": [0.0], **self.update_metrics}}

    def compute_log_prob(self, batch: Any) -> Any:
        self.asked.append(copy.deepcopy(batch.extra_info))
        for key in batch.keys:
            row = self.store.rows[key]
            row["log_probs"] = torch.full((len(row["prompts"]) + len(row["responses"]),), -0.75)
            row["entropy"] = torch.ones(len(row["log_probs"]))
            if sets := batch.extra_info.get("token_sets"):
                row["set_log_probs"] = self._masses(key, "slow", row["responses"], row["set_positions"], len(sets))
                row["branch_set_log_probs"] = self._masses(
                    key, "fast", row["branch_ids"], row["branch_set_positions"], len(sets)
                )
        return batch

    def _masses(self, key: str, mode: str, ids: torch.Tensor, places: torch.Tensor, sets: int) -> torch.Tensor:
        rows = []
        for place in places.tolist():
            word = self.tokenizer.decode(ids[place]).strip()
            # Of a response without words the first token is asked for, and the reply is not to be read.
            first = self.table.get((key, word), (9.0, 99.0))[mode == "fast"]
            rows.append(torch.cat([first - STEP * torch.arange(sets), torch.tensor([OWN[mode]])]))
        return torch.cat(rows)
