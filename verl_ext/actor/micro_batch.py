"""What the engine reads off verl's micro-batches: samples, and the places whose set log-probs are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.model import extract_multi_modal_inputs

from verl_ext.actor import branch
from verl_ext.actor.flex import block_mask
from verl_ext.actor.set_log_probs import TokenSets, set_log_probs
from verl_ext.actor.shared_prompt import Packed, Sample, find_groups, pack

TOKEN_SETS = "token_sets"
TOKEN_SHARES = "token_shares"
SET_POSITIONS = "set_positions"
BRANCH_SET_POSITIONS = "branch_set_positions"


def asks_for_sets(micro_batch: TensorDict) -> bool:
    """Whether set log-probs are asked for."""
    return tu.get_non_tensor_data(micro_batch, TOKEN_SETS, default=None) is not None


class SetPlaces:
    """The places of responses and branches whose set log-probs are asked for."""

    def __init__(self, micro_batch: TensorDict):
        device = micro_batch["input_ids"].device
        self.layout = branch.Layout.of(micro_batch)
        self.removed_padding = tu.get_non_tensor_data(micro_batch, "use_remove_padding", default=True)
        sets, shares = (tu.get_non_tensor_data(micro_batch, name, default=None) for name in (TOKEN_SETS, TOKEN_SHARES))
        self.sets = TokenSets.from_lists(sets, shares, device)
        self.positions = list(micro_batch[SET_POSITIONS].unbind())
        self.branch_positions = list(micro_batch[BRANCH_SET_POSITIONS].unbind())
        self.responses = list(micro_batch["responses"].unbind())

    def of_response(self, logits: torch.Tensor) -> torch.Tensor:
        """``(Σ n_i, S + 1)`` from the logits of prompt and response, ``(B, l, V)`` or ``(1, Σ l, V)``."""
        return self._gather(logits, self.positions, self.responses, self.layout.sequence_lengths)

    def of_branch(self, logits: torch.Tensor) -> torch.Tensor:
        """The same from the logits of prompt and branch."""
        lengths = [
            prompt + len(ids) for prompt, ids in zip(self.layout.prompt_lengths, self.layout.branches, strict=True)
        ]
        return self._gather(logits, self.branch_positions, self.layout.branches, lengths)

    def _gather(
        self,
        logits: torch.Tensor,
        positions: list[torch.Tensor],
        continuations: list[torch.Tensor],
        lengths: list[int],
    ) -> torch.Tensor:
        rows, sequence_start = [], 0
        for index, places in enumerate(positions):
            column = self.layout.prompt_lengths[index] + places - 1
            rows.append(logits[0, sequence_start + column] if self.removed_padding else logits[index, column])
            sequence_start += lengths[index]
        return self.masses(torch.cat(rows), positions, continuations)

    def masses(
        self, logits_NV: torch.Tensor, positions: list[torch.Tensor], continuations: list[torch.Tensor]
    ) -> torch.Tensor:
        """``(N, S + 1)``: the rows' set log-probs and the log-probs of the tokens that follow them."""
        labels = [ids[places] for ids, places in zip(continuations, positions, strict=True)]
        return set_log_probs(logits_NV, torch.cat(labels), self.sets)

    def jagged(self, values: torch.Tensor) -> torch.Tensor:
        """``(Σ n_i, S + 1)`` as one flat row a response."""
        parts = values.split([len(places) for places in self.positions])
        return torch.nested.as_nested_tensor([part.flatten() for part in parts], layout=torch.jagged)


class PackedBatch:
    """A micro-batch with one row a group of responses. Every token of the responses is scored. Logits in full are only
    those at the places whose set log-probs are asked for: of the responses, then of the branches.

    Args:
        micro_batch: verl's, with responses.
        media_tokens: ids of the tokens that stand for media.
    """

    def __init__(self, micro_batch: TensorDict, media_tokens: Sequence[int] = ()):
        self.input_ids, self.responses = micro_batch["input_ids"], micro_batch["responses"]
        self.device = self.input_ids.device
        self.places = SetPlaces(micro_batch) if asks_for_sets(micro_batch) else None
        self.samples = samples_of(micro_batch)
        groups = find_groups(self.samples, media_tokens)
        padding = tu.get_non_tensor_data(micro_batch, "pad_token_id", default=0)
        self.packed: Packed = pack(self.samples, groups, padding, self.device)
        self._media = [self.samples[group[0]].media for group in groups]
        temperature = micro_batch["temperature"]
        self.temperature = None  # 1
        if isinstance(temperature, torch.Tensor) or float(temperature) != 1.0:
            of_sample = torch.as_tensor(temperature, dtype=torch.float32, device=self.device).expand(len(self.samples))
            self.temperature = of_sample.repeat_interleave(self.responses.offsets().diff())[:, None]

    def inputs(self, flex: bool = False) -> dict[str, Any]:
        """Arguments of the policy's forward, but for ``score``.

        Args:
            flex: rows with several continuations get FlexAttention's mask (:mod:`verl_ext.actor.flex`).
        """
        packed, full = self.packed, [torch.empty(0, dtype=torch.int64)]
        scored = [
            packed.before_response(index, torch.arange(len(sample.response)))
            for index, sample in enumerate(self.samples)
        ]
        if self.places is not None:
            of_responses, of_branches = _on_host(self.places.positions), _on_host(self.places.branch_positions)
            full += [packed.before_response(index, places) for index, places in enumerate(of_responses)]
            full += [packed.before_branch(index, places) for index, places in enumerate(of_branches)]
        return {
            "input_ids": packed.input_ids,
            "attention_mask": block_mask(packed.parts) if flex and packed.shares else packed.attention_mask,
            "position_ids": packed.position_ids,
            "logits_at": torch.cat(full).to(self.device),
            "scores_at": torch.cat(scored).to(self.device),
            **extract_multi_modal_inputs(self._media),
        }

    def labels(self, which: slice) -> torch.Tensor:
        """The tokens whose logits are scored: some of ``(Σ r_i,)``."""
        return self.responses.values()[which]

    def at_temperature(self, logits_NV: torch.Tensor, which: slice) -> torch.Tensor:
        """Some of the scored logits, divided by their sample's temperature."""
        if self.temperature is None:
            return logits_NV
        return logits_NV / self.temperature[which].clamp(min=1e-8).to(logits_NV.dtype)

    def set_log_probs(self, logits_NV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``(Σ n_i, S + 1)`` of the responses and of the branches."""
        places = self.places
        of_responses, of_branches = logits_NV.split(
            [sum(map(len, places.positions)), sum(map(len, places.branch_positions))]
        )
        return (
            places.masses(of_responses, places.positions, places.responses),
            places.masses(of_branches, places.branch_positions, places.layout.branches),
        )

    def as_verl_returns(self, values: torch.Tensor) -> torch.Tensor:
        """Values ``(Σ r_i,)`` of the responses' tokens, jagged ``(B, l_i)``, each where the token before it is.

        Prompts have zeros, as has the last place of every sequence: verl reads neither.
        """
        offsets, ends = self.input_ids.offsets().tolist()[:-1], []
        for start, sample in zip(offsets, self.samples, strict=True):
            first = start + sample.prompt_length - 1
            ends.append(torch.arange(first, first + len(sample.response)))
        places = torch.cat(ends).to(self.device)
        spread = values.new_zeros(self.input_ids.values().shape).index_put((places,), values)
        return torch.nested.nested_tensor_from_jagged(spread, self.input_ids.offsets())


def response_values(jagged: torch.Tensor, micro_batch: TensorDict) -> torch.Tensor:
    """``(Σ r_i,)``: what verl reads of values ``(B, l_i)``."""
    ends = jagged.offsets()[1:].tolist()
    lengths = micro_batch["responses"].offsets().diff().tolist()
    values = jagged.values()
    return torch.cat([values[end - length - 1 : end - 1] for end, length in zip(ends, lengths, strict=True)])


def samples_of(micro_batch: TensorDict) -> list[Sample]:
    """The samples of a micro-batch or of a batch, tokens and positions on the host."""
    ids = _on_host(micro_batch["input_ids"].unbind())
    responses = micro_batch["responses"].offsets().diff().tolist()
    positions = _on_host(branch.position_rows(micro_batch["position_ids"], [len(row) for row in ids]))
    branches = [None] * len(ids)
    if asks_for_sets(micro_batch):
        branches = _on_host(micro_batch[branch.BRANCH_IDS].unbind())
    media = [getattr(inputs, "data", inputs) for inputs in micro_batch.get("multi_modal_inputs", [])]
    uids = tu.get(micro_batch, "uid") or [None] * len(ids)
    return [
        Sample(ids[i], positions[i], len(ids[i]) - responses[i], branches[i], media[i] if media else None, uids[i])
        for i in range(len(ids))
    ]


def _on_host(rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The rows on the CPU, in one copy."""
    lengths = [row.shape[-1] for row in rows]
    return list(torch.cat(tuple(rows), dim=-1).cpu().split(lengths, dim=-1))
