"""One row for all continuations of a prompt: the prompt once, then its responses, then their branches.

    [prompt] [R_1] … [R_G] [A_1] … [A_G]

A block mask lets every continuation see the prompt and itself. The positions of every continuation go on where the
prompt ends. So one forward reads the prompt and its media once for the whole group, and gives each continuation the
logits that a forward of its own would give. A *branch* is a second continuation of a response's prompt.

Needs torch alone. Shapes: B samples (responses); P rows, one a group; L padded length of the rows. A *flat index* is
row · L + column.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class Sample:
    """A prompt and its response, with what says whose prompt it is."""

    ids: torch.Tensor
    """``(l,)`` int64: prompt and response."""
    positions: torch.Tensor
    """``(l,)``, or ``(4, l)`` with the channels of M-RoPE."""
    prompt_length: int
    branch: torch.Tensor | None = None
    """``(a,)`` int64: another continuation of the prompt."""
    media: Mapping[str, Any] | None = None
    """What the encoders read of this prompt."""
    uid: Hashable = None
    """Samples with different uids never share a row."""

    @property
    def response(self) -> torch.Tensor:
        """``(l − prompt_length,)``."""
        return self.ids[self.prompt_length :]


def find_groups(samples: Sequence[Sample], media_tokens: Iterable[int] = ()) -> list[list[int]]:
    """Indices of the samples that share a prompt, in the order of each group's first sample.

    Samples share a prompt if uid, tokens, positions and media of the prompt are equal. They need not be neighbours.

    Args:
        samples: at least one.
        media_tokens: placeholders of media. A response that holds one has media of its own, so it stays alone.
    """
    media_tokens = torch.tensor(list(media_tokens), dtype=torch.int64)
    candidates: dict[Hashable, list[list[int]]] = {}
    groups: list[list[int]] = []
    for index, sample in enumerate(samples):
        ids = sample.ids.cpu()
        positions = sample.positions[..., : sample.prompt_length].cpu().contiguous()
        key: Hashable = (sample.uid, ids[: sample.prompt_length].numpy().tobytes(), positions.numpy().tobytes())
        if torch.isin(ids[sample.prompt_length :], media_tokens).any():
            key = ("alone", index)
        known = candidates.setdefault(key, [])
        group = next((group for group in known if same_media(samples[group[0]].media, sample.media)), None)
        if group is None:
            group = []
            known.append(group)
            groups.append(group)
        group.append(index)
    return groups


def same_media(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether both hold the same tensors; a missing entry and None are the same."""
    one, other = ({name: value for name, value in (part or {}).items() if value is not None} for part in (one, other))
    return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return type(one) is type(other) and not isinstance(one, torch.Tensor) and one == other


@dataclass(frozen=True)
class Packed:
    """Model inputs of P rows, and where each sample lies in them."""

    input_ids: torch.Tensor
    """``(P, L)``."""
    position_ids: torch.Tensor
    """``(P, L)`` or ``(4, P, L)``."""
    parts: torch.Tensor
    """``(P, L)`` int64: 0 in the prompt, 1, 2, … in the continuations in the order of the row, −1 in the padding."""
    shares: bool
    """Whether any row holds more than one continuation."""
    prompt_ends: list[int]
    """By sample: flat index of its prompt's last token."""
    response_starts: list[int]
    """By sample: flat index of its response's first token."""
    branch_starts: list[int | None]
    """By sample: flat index of its branch's first token."""
    tokens: int
    """Without padding."""

    @cached_property
    def attention_mask(self) -> torch.Tensor:
        """``(P, 1, L, L)`` bool, True where a query (row) sees a key (column). ``(P, L)`` int32, 1 at tokens, where no
        row has more than one continuation."""
        if not self.shares:
            return (self.parts >= 0).to(torch.int32)
        query, key = self.parts[:, :, None], self.parts[:, None, :]
        # Padding comes last, so that causality hides it. Its own rows see the prompt: a row that sees nothing gives
        # NaN.
        return ((query == key) | (key == 0)).tril()[:, None]

    def before_response(self, sample: int, places: torch.Tensor) -> torch.Tensor:
        """Flat indices of the logits that predict the tokens at these places of a sample's response."""
        return _before(self.prompt_ends[sample], self.response_starts[sample], places)

    def before_branch(self, sample: int, places: torch.Tensor) -> torch.Tensor:
        """The same for its branch."""
        start = self.branch_starts[sample]
        if start is None:
            raise ValueError(f"sample {sample} has no branch")
        return _before(self.prompt_ends[sample], start, places)


def _before(prompt_end: int, start: int, places: torch.Tensor) -> torch.Tensor:
    # The first token of every continuation is predicted by the prompt's last.
    return torch.where(places == 0, prompt_end, start + places - 1)


def pack(
    samples: Sequence[Sample],
    groups: Sequence[Sequence[int]],
    padding: int = 0,
    device: torch.device | str | None = None,
) -> Packed:
    """One row a group, padded to the longest.

    Args:
        samples: each with a branch or without.
        groups: of :func:`find_groups`: every sample is in one group.
        padding: token id behind the end of a row.
        device: where the model is; None: where the samples are.
    """
    rows = [_Row.of([samples[index] for index in group]) for group in groups]
    length = max(row.length for row in rows)
    found: dict[int, tuple[int, int, int | None]] = {}
    for place, (row, group) in enumerate(zip(rows, groups, strict=True)):
        base = place * length
        for index, response, branch in zip(group, row.response_starts, row.branch_starts, strict=True):
            found[index] = (base + row.prompt_length - 1, base + response, None if branch is None else base + branch)
    ends, responses, branches = zip(*(found[index] for index in range(len(samples))), strict=True)
    # pad_sequence wants the ragged dimension first.
    positions = pad_sequence([row.positions.movedim(-1, 0) for row in rows], batch_first=True)  # (P, L) or (P, L, 4)
    return Packed(
        input_ids=pad_sequence([row.ids for row in rows], batch_first=True, padding_value=padding).to(device),
        position_ids=(positions if positions.dim() == 2 else positions.movedim(-1, 0).contiguous()).to(device),
        parts=_parts(rows).to(device or rows[0].ids.device),
        shares=any(len(row.part_lengths) > 2 for row in rows),
        prompt_ends=list(ends),
        response_starts=list(responses),
        branch_starts=list(branches),
        tokens=sum(row.length for row in rows),
    )


@dataclass(frozen=True)
class _Row:
    """A group as one sequence; starts are columns, by member of the group."""

    ids: torch.Tensor
    positions: torch.Tensor
    part_lengths: list[int]
    """The prompt, then each continuation."""
    response_starts: list[int]
    branch_starts: list[int | None]

    @property
    def prompt_length(self) -> int:
        return self.part_lengths[0]

    @property
    def length(self) -> int:
        return sum(self.part_lengths)

    @classmethod
    def of(cls, members: Sequence[Sample]) -> _Row:
        first = members[0]
        prompt = first.prompt_length
        ids, positions = [first.ids[:prompt]], [first.positions[..., :prompt]]
        end, response_starts = prompt, []
        for member in members:
            ids.append(member.response)
            positions.append(member.positions[..., prompt:])
            response_starts.append(end)
            end += len(ids[-1])
        branch_starts: list[int | None] = []
        for member in members:
            if member.branch is None:
                branch_starts.append(None)
                continue
            # The response's first token has the position that follows the prompt, in every channel.
            steps = torch.arange(len(member.branch), device=member.positions.device)
            ids.append(member.branch)
            positions.append(member.positions[..., prompt, None] + steps)
            branch_starts.append(end)
            end += len(member.branch)
        lengths = [len(part) for part in ids]
        return cls(torch.cat(ids), torch.cat(positions, dim=-1), lengths, response_starts, branch_starts)


def _parts(rows: Sequence[_Row]) -> torch.Tensor:
    """See :attr:`Packed.parts`."""
    of_rows = [
        torch.repeat_interleave(torch.arange(len(row.part_lengths)), torch.tensor(row.part_lengths)) for row in rows
    ]
    return pad_sequence(of_rows, batch_first=True, padding_value=-1)
