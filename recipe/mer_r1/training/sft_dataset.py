"""What supervised fine-tuning teaches: reason and labels in the slow form, labels alone in the fast form."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from recipe.mer_r1.method.answer import FAST_PREFIX, ask_for, fast_response, labels_of, slow_response
from verl_ext.data.dataset import ShardError
from verl_ext.data.sft_dataset import Draw, OmniSFTDataset, row_name


class MERSFTDataset(OmniSFTDataset):
    """Slow and fast responses to a clip's own prompt.

    A share `data.fast_fraction` of the draws is fast: the reply is made to begin with `FAST_PREFIX`, and the loss is
    on what follows it alone. So the model never learns to skip the thought by itself; RL and evaluation ask for the
    fast form by the same prefix. A row without a reason is always drawn fast. `data.form` chooses what the slow form
    looks like, and asks for it in the prompt; one that answers before it thinks has its fast answer there, and no draw
    of its own for it.
    """

    def draw(self, row: Mapping[str, Any], rng: random.Random) -> Draw:
        reason, form = row["extra_info"].get("reason"), self.config.form
        try:
            labels = labels_of(row["reward_model"])
            prompt = ask_for(form, row["prompt"][-1]["content"])
            share = self.config.fast_fraction if form == "think_answer" else 0.0
            if reason and rng.random() >= share:
                return Draw(prompt, target=slow_response(reason, labels, form))
            return Draw(prompt, target=fast_response(labels).removeprefix(FAST_PREFIX), given=FAST_PREFIX)
        except ValueError as error:
            raise ShardError(f"row {row_name(row)}: {error}") from error

    def note(self) -> str:
        """What a user should know about the rows before training; "" where there is nothing."""
        if any(info.get("reason") for info in self.rows["extra_info"]):
            return ""
        return (
            f"none of the {len(self.rows)} rows has a reason (extra_info.reason), so SFT teaches the fast form only; "
            "for the slow form, build the shard with reasons (data_prep build --reasons)"
        )

    def check_replies(self) -> None:
        """Make both replies of every row.

        Raises:
            ShardError: a row's prompt cannot ask for the form, or its reason or labels would not be read back.
        """
        for row in self.rows.select_columns(["prompt", "reward_model", "extra_info"]):
            try:
                ask_for(self.config.form, row["prompt"][-1]["content"])
                slow_response(row["extra_info"].get("reason") or "", labels_of(row["reward_model"]), self.config.form)
            except ValueError as error:
                raise ShardError(f"row {row_name(row)}: {error}") from error
