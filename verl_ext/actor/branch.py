"""A branch: a second continuation of a response's prompt, scored beside the response. Tensors only; no engine.

Two ways to get its logits, both from the model inputs that verl prepared for the responses:

- :func:`pack` puts the branch behind the (padded) response in the same row. A block mask lets it see the prompt and
  itself, and its positions go on where the prompt ends, so one forward serves both and the prompt is read once.
- :func:`separate` makes a batch of its own, prompt and branch, as verl would have made it. It is the oracle for the
  first, and what runs where a block mask cannot be given (FlashAttention, removed padding).

The media tensors of the batch serve both: no clip is decoded or sent to the device twice.

Shapes: B responses; L padded length of prompt + response; A padded length of the branches; jagged tensors are lists of
one row a response here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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

    def to(self, device: torch.device | str) -> Layout:
        """The same with the branches on another device."""
        return Layout(self.prompt_lengths, self.sequence_lengths, [ids.to(device) for ids in self.branches])

    @property
    def width(self) -> int:
        """A, the longest branch."""
        return max(len(branch) for branch in self.branches)


def pack(inputs: dict[str, Any], layout: Layout) -> dict[str, Any]:
    """Model inputs with each branch behind its padded response: ``input_ids`` ``(B, L + A)``.

    Args:
        inputs: ``input_ids`` ``(B, L)``, ``position_ids`` ``(B, L)`` or ``(4, B, L)``, ``attention_mask`` ``(B, L)``,
            and anything else, which is handed on. The mask becomes boolean ``(B, 1, L + A, L + A)``.
    """
    input_ids_BL, position_ids = inputs["input_ids"], inputs["position_ids"]
    length = input_ids_BL.shape[1]
    branch_BA = torch.nn.utils.rnn.pad_sequence(layout.branches, batch_first=True)
    # The response's first token stands where the prompt ends, in every position channel.
    start = torch.tensor(layout.prompt_lengths, device=input_ids_BL.device)  # (B,)
    index = start.expand(position_ids.shape[:-1]).unsqueeze(-1)  # (B, 1) or (4, B, 1)
    branch_positions = position_ids.gather(-1, index) + torch.arange(layout.width, device=start.device)
    return {
        **inputs,
        "input_ids": torch.cat([input_ids_BL, branch_BA], dim=1),
        "position_ids": torch.cat([position_ids, branch_positions], dim=-1),
        "attention_mask": _block_mask(layout, length, start),
    }


def _block_mask(layout: Layout, length: int, prompt_lengths_B: torch.Tensor) -> torch.Tensor:
    """``(B, 1, L + A, L + A)`` bool, True where a query (row) sees a key (column)."""
    device = prompt_lengths_B.device
    place = torch.arange(length + layout.width, device=device)
    query, key = place[:, None], place[None, :]
    causal = key <= query
    in_branch_query, in_branch_key = query >= length, key >= length
    prompt_key = key < prompt_lengths_B[:, None, None]  # (B, 1, L + A)
    # Padding comes after the tokens of its part, so that causality hides it from them; its own rows are not read.
    return (causal & (~in_branch_query | in_branch_key | prompt_key))[:, None]


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


def position_rows(nested: torch.Tensor, lengths: list[int]) -> list[torch.Tensor]:
    """Rows ``(l_i,)`` or ``(4, l_i)`` of jagged positions.

    ``unbind`` would split the wrong dimension of the latter. And ``torch.nested.as_nested_tensor``, with which verl and
    TransferQueue build them, makes the four channels the ragged dimension where all rows have the same length.
    """
    values = nested.values()  # (Σ l,), (4, Σ l), or (B · 4, l)
    if values.shape[-1] == sum(lengths):
        return list(values.split(lengths, dim=-1))
    return list(values.unflatten(0, (len(lengths), -1)).unbind())


def jagged(rows: list[torch.Tensor]) -> torch.Tensor:
    """Rows ``(l_i,)`` or ``(4, l_i)`` as one jagged tensor, whose last dimension is the ragged one at any lengths."""
    lengths = torch.tensor([0, *(row.shape[-1] for row in rows)], device=rows[0].device)
    return torch.nested.nested_tensor_from_jagged(torch.cat(rows, dim=-1), lengths.cumsum(0), jagged_dim=rows[0].dim())
