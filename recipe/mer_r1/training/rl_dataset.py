"""The RL rows, asked for in the experiment's form."""

from __future__ import annotations

from typing import Any

from recipe.mer_r1.method.answer import ask_for
from verl_ext.data.dataset import OmniDataset, ShardError


class MERDataset(OmniDataset):
    """Rows whose prompt ends with the instruction of ``data.form`` (shards are written with that of think_answer)."""

    def _build_messages(self, example: dict[str, Any], key: str) -> list[dict[str, Any]]:
        *before, last = (dict(message) for message in example[key])
        try:
            last["content"] = ask_for(self.config.form, last["content"])
        except ValueError as error:
            raise ShardError(f"data.form={self.config.form}: {error}") from error
        return super()._build_messages({**example, key: [*before, last]}, key=key)
