"""The language-model head on chosen rows: in full, or read a chunk at a time so that few logits are in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.utils.checkpoint import checkpoint

CHUNK_ELEMENTS = 2**27
"""Logits that are in memory at a time where they are read in chunks: 512 MiB in fp32."""

Read = Callable[[torch.Tensor, slice], torch.Tensor]
"""Makes of some rows, and which of all rows they are, one row of values each; changes nothing else."""


@contextmanager
def head_on_rows(
    head: torch.nn.Module, in_full: torch.Tensor, scored: torch.Tensor | None = None, score: Read | None = None
) -> Iterator[None]:
    """The head's next call gives only some rows of its input ``(batch, length, hidden)``, flattened.

    The head is called once, whatever the number of rows and chunks: FSDP gathers the weights around each call, and the
    ranks must call it equally often.

    Args:
        head: with an output of size V.
        in_full: ``(N,)`` rows whose logits ``(N, V)`` are the output; also several times the same.
        scored: ``(M,)`` rows that are only read. With them the output is a pair, the second ``(M, k)``.
        score: makes of logits ``(m, V)`` scores ``(m, k)``.
    """
    linear, of_instance = head.forward, head.__dict__.get("forward")

    def forward(hidden: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        # Indexing, not index_select: the gradient of a row that is taken twice is summed in a fixed order.
        hidden_NH = hidden.flatten(0, 1)
        logits = linear(hidden_NH[in_full])
        if scored is None:
            return logits
        return logits, read_in_chunks(
            hidden_NH[scored], lambda rows, which: score(linear(rows), which), logits.shape[1]
        )

    head.forward = forward
    try:
        yield
    finally:
        if of_instance is None:
            del head.forward
        else:
            head.forward = of_instance


def read_in_chunks(hidden_NH: torch.Tensor, read: Read, vocabulary: int) -> torch.Tensor:
    """What ``read`` makes of the rows. If there are several chunks, the backward pass reads each again.

    Args:
        hidden_NH: rows of the head's input.
        read: makes a row of values of each.
        vocabulary: logits per row; says how many rows make a chunk.
    """
    rows = max(1, CHUNK_ELEMENTS // vocabulary)
    parts = [slice(start, start + rows) for start in range(0, max(1, len(hidden_NH)), rows)]
    if len(parts) > 1 and torch.is_grad_enabled():
        return torch.cat([checkpoint(read, hidden_NH[part], part, use_reentrant=False) for part in parts])
    return torch.cat([read(hidden_NH[part], part) for part in parts])
