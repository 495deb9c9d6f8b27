"""Which samples of a rank's batch make a micro-batch, where its size is counted in tokens of the packed rows.

A *row* is a prompt with the continuations of its samples, as :func:`~verl_ext.actor.shared_prompt.pack` lays them out;
the rows of a micro-batch are padded to the longest. So a micro-batch has rows × longest row tokens. Needs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class _MicroBatch:
    rows: tuple[tuple[int, ...], ...]
    """Indices of the samples, row by row."""
    lengths: tuple[int, ...]
    """Tokens of each row."""

    @property
    def tokens(self) -> int:
        return len(self.lengths) * max(self.lengths)

    @property
    def samples(self) -> list[int]:
        return sorted(index for row in self.rows for index in row)


def split(
    groups: Sequence[Sequence[int]],
    prompts: Sequence[int],
    continuations: Sequence[int],
    limit: int,
    count: int | None = None,
) -> list[list[int]]:
    """Micro-batches of whole groups, of at most `limit` tokens each, the largest first.

    A group over the limit is cut into parts of some samples, each with the prompt once. A sample over the limit is
    alone in its micro-batch.

    Args:
        groups: indices of the samples that share a prompt; each sample is in one group.
        prompts: tokens of each sample's prompt, the same for all samples of a group.
        continuations: tokens of each sample's response and branch together.
        limit: tokens of a micro-batch, padding counts.
        count: how many micro-batches to make; at least as many as without it. The largest of those with several rows is
            halved, as often as needed; if there are none, the largest row. None: the fewest.

    Returns:
        Indices of the samples of each micro-batch, in ascending order.

    Raises:
        ValueError: the limit is not 1 or more, or `count` is out of reach.
    """
    check_limit(limit)
    rows = [row for group in groups for row in _rows(group, prompts, continuations, limit)]
    found = _fill(rows, prompts, continuations, limit)
    if count is not None:
        samples = sum(map(len, groups))
        if not len(found) <= count <= samples:
            raise ValueError(
                f"{samples} samples need {len(found)} micro-batches or more, and cannot make {count} that are not empty"
            )
        while len(found) < count:
            several_rows = [part for part in found if len(part.rows) > 1]
            largest = max(several_rows or [part for part in found if len(part.samples) > 1], key=_size)
            found.remove(largest)
            found += _halves(largest, prompts, continuations)
    return [part.samples for part in sorted(found, key=_size, reverse=True)]


def check_limit(limit: int) -> None:
    """Raise ValueError for a limit that is not a whole number from 1 on."""
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ValueError(f"the limit of a micro-batch must be 1 token or more, a whole number; it is {limit!r}")


def _size(part: _MicroBatch) -> tuple[int, int]:
    # Of two equal ones, that of the first sample comes first, so that the order is always the same.
    return part.tokens, -part.samples[0]


def _length(row: Sequence[int], prompts: Sequence[int], continuations: Sequence[int]) -> int:
    return prompts[row[0]] + sum(continuations[index] for index in row)


def _rows(
    group: Sequence[int], prompts: Sequence[int], continuations: Sequence[int], limit: int
) -> list[tuple[int, ...]]:
    """The group in one row, or in rows of which no two fit into one.

    So no two rows of a group are ever in the same micro-batch: together they would have more tokens than the limit.
    `pack` would make one row of them, which is longer than either.
    """
    rows: list[list[int]] = []
    for index in group:
        fitting = (row for row in rows if _length([*row, index], prompts, continuations) <= limit)
        row = next(fitting, None)
        if row is None:
            rows.append([index])
        else:
            row.append(index)
    return [tuple(row) for row in rows]


def _fill(
    rows: Sequence[tuple[int, ...]], prompts: Sequence[int], continuations: Sequence[int], limit: int
) -> list[_MicroBatch]:
    """The fewest micro-batches for these rows: the longest row decides how many rows of its size or below fit."""
    lengths = {row: _length(row, prompts, continuations) for row in rows}
    order = sorted(rows, key=lambda row: (-lengths[row], row))
    found = []
    while order:
        fitting = max(1, limit // max(1, lengths[order[0]]))
        taken, order = order[:fitting], order[fitting:]
        found.append(_MicroBatch(tuple(taken), tuple(lengths[row] for row in taken)))
    return found


def _halves(part: _MicroBatch, prompts: Sequence[int], continuations: Sequence[int]) -> list[_MicroBatch]:
    if len(part.rows) > 1:
        parts = part.rows[: len(part.rows) // 2], part.rows[len(part.rows) // 2 :]
    else:
        (row,) = part.rows
        parts = (row[: len(row) // 2],), (row[len(row) // 2 :],)
    return [_MicroBatch(half, tuple(_length(row, prompts, continuations) for row in half)) for half in parts]
