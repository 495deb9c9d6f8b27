"""A branch: a second continuation of a response's prompt, scored beside the response. Tensors only; no engine.

:func:`separate` makes a batch of its own, prompt and branch, as verl would have made it. It is the oracle for the one
forward of :mod:`verl_ext.actor.shared_prompt`, and what runs where a block mask cannot be given (FlashAttention,
removed padding). The media tensors of the batch serve both: no clip is decoded or sent to the device twice.

Jagged tensors are lists of one row a response here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:  # the rest runs where torch alone is installed
    from tensordict import TensorDict

BRANCH_IDS = "branch_ids"
"""Field: tokens of the branch, after the prompt; jagged ``(B, a_i)`` int64, not empty."""


@dataclass(frozen=True)
class Layout:
    """Where prompts, responses and branches lie; one entry a response."""

    prompt_lengths: list[int]
    sequence_lengths: list[int]
    """Prompt and response together."""
    branches: list[torch.Tensor]
    """Token ids ``(a_i,)``."""

    @classmethod
    def of(cls, micro_batch: TensorDict) -> Layout:
        """Read it off verl's jagged fields ``input_ids`` and ``responses`` and the field :data:`BRANCH_IDS`."""
        sequences = micro_batch["input_ids"].offsets().diff().tolist()
        responses = micro_batch["responses"].offsets().diff().tolist()
        prompts = [total - response for total, response in zip(sequences, responses, strict=True)]
        return cls(prompts, sequences, list(micro_batch[BRANCH_IDS].unbind()))


def separate(micro_batch: TensorDict, layout: Layout) -> TensorDict:
    """A shallow copy of verl's micro-batch that holds prompt + branch in place of prompt + response."""
    ids, positions = [], []
    rows = zip(
        micro_batch["input_ids"].unbind(),
        position_rows(micro_batch["position_ids"], layout.sequence_lengths),
        layout.prompt_lengths,
        strict=True,
    )
    for (sequence, position, prompt), branch in zip(rows, layout.branches, strict=True):
        ids.append(torch.cat([sequence[:prompt], branch]))
        steps = torch.arange(len(branch), device=position.device)
        positions.append(torch.cat([position[..., :prompt], position[..., prompt, None] + steps], dim=-1))
    batch = micro_batch.copy()
    batch["input_ids"] = jagged(ids)
    batch["position_ids"] = jagged(positions)
    return batch


def ragged_positions(batch: TensorDict) -> torch.Tensor:
    """The batch's jagged positions ``(4, l_i)``, whose ragged dimension is the tokens, at any lengths.

    ``torch.nested.as_nested_tensor``, with which verl and TransferQueue build them, takes the four channels for the
    ragged dimension where all rows of a batch have the same length. After a pickle no trace of it is left.
    """
    return jagged(position_rows(batch["position_ids"], batch["input_ids"].offsets().diff().tolist()))


def position_rows(nested: torch.Tensor, lengths: list[int]) -> list[torch.Tensor]:
    """Rows ``(l_i,)`` or ``(4, l_i)`` of jagged positions, of either kind of ragged dimension."""
    values = nested.values()  # (Σ l,), (4, Σ l), or (B · 4, l)
    if values.shape[-1] == sum(lengths):
        return list(values.split(lengths, dim=-1))
    return list(values.unflatten(0, (len(lengths), -1)).unbind())


def jagged(rows: list[torch.Tensor]) -> torch.Tensor:
    """Rows ``(l_i,)`` or ``(4, l_i)`` as one jagged tensor, whose last dimension is the ragged one."""
    lengths = torch.tensor([0, *(row.shape[-1] for row in rows)], device=rows[0].device)
    return torch.nested.nested_tensor_from_jagged(torch.cat(rows, dim=-1), lengths.cumsum(0), jagged_dim=rows[0].dim())
