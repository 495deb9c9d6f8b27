"""verl's FSDP engine, whose log-prob pass can also return set log-probs, for the response and for a branch.

Registered for the CPU (verl has none there) and for NVIDIA (beside verl's own, which has no vendor). Without the fields
below it does what verl's engine does. With them, ``compute_log_prob`` returns two more entries a response:

==========================  ==========================================================================================
non-tensor ``token_sets``   one list of token ids a set (S of them); asks for the set log-probs
non-tensor ``token_shares`` the shares of the tokens' probabilities that count, list by list; absent: all in full
``branch_ids``              jagged ``(B, a_i)``: another continuation of the response's prompt
``set_positions``           jagged ``(B, n_i)``, n_i ≥ 1: places in the response, counted from its first token
``branch_set_positions``    jagged ``(B, n_i)``: places in the branch
*returned* ``set_log_probs``, ``branch_set_log_probs``   jagged ``(B, n_i · (S + 1))``: rows of
                            :func:`~verl_ext.actor.set_log_probs.set_log_probs` for each place, laid end to end
==========================  ==========================================================================================

The branch rides in the response's own forward (:mod:`verl_ext.actor.branch`) where the attention takes a block mask
(sdpa), and has a forward of its own elsewhere. The one forward is compared with two on the first micro-batch of
every process before it is trusted.

Imported once verl's engine module is (see :mod:`verl_ext.plugin`), never before: that import is slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from verl_ext.actor import branch
from verl_ext.actor.set_log_probs import TokenSets, set_log_probs
from verl_ext.actor.vision_angles import keep_vision_angles
from verl_ext.models.towers import FROZEN

TOKEN_SETS = "token_sets"
TOKEN_SHARES = "token_shares"
SET_POSITIONS = "set_positions"
BRANCH_SET_POSITIONS = "branch_set_positions"
SET_LOG_PROBS = "set_log_probs"
BRANCH_SET_LOG_PROBS = "branch_set_log_probs"


@dataclass(frozen=True)
class Limit:
    """How far one forward may be from two, in nats."""

    largest: float
    mean: float
    """Of the responses, and of the branches."""


# In fp32 they differ by 4e-5 at most, and with a position one off by 1.6. Low precision rounds each way on its own, so
# that the mean says more than the largest: SmolLM2 in bf16 differs by .23 at most and .06 on average, and without the
# block mask by 7.5 and 1.4. A position one off is lost in the rounding there.
# (tests/verl_ext/actor/test_one_forward_low_precision.py)
LIMIT = {torch.float32: Limit(1e-4, 1e-4)}
LIMIT_LOW_PRECISION = Limit(2.0, 0.3)


class BranchMismatchError(RuntimeError):
    """The one forward for response and branch does not give what two forwards give."""


class SetLogProbsMixin:
    """For verl's FSDP engine with a language-model head."""

    _one_forward_is_checked = False

    def _build_module(self) -> torch.nn.Module:
        module = super()._build_module()
        if towers := getattr(self.model_config.hf_config, FROZEN, None):
            module.freeze(towers)
        return module

    def _build_fsdp_module(self, module: torch.nn.Module) -> torch.nn.Module:
        module = super()._build_fsdp_module(module)
        keep_vision_angles(module)
        return module

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
        inputs, output_args = super().prepare_model_inputs(_with_jagged_positions(micro_batch))
        if _wanted(micro_batch) and self._takes_block_mask(micro_batch):
            output_args["packed_at"] = inputs["input_ids"].shape[1]
            inputs = branch.pack(inputs, branch.Layout.of(micro_batch))
        return inputs, output_args

    def prepare_model_outputs(
        self, output: Any, output_args: dict[str, Any], micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict[str, Any]:
        if not _wanted(micro_batch):
            return super().prepare_model_outputs(output, output_args, micro_batch, logits_processor_func)
        rows = _Rows(micro_batch, output.logits.device)
        if "packed_at" in output_args:
            length = output_args["packed_at"]
            found = rows.of_response(output.logits), rows.of_branch(output.logits, length)
            output.logits = output.logits[:, :length].contiguous()
            if not self._one_forward_is_checked:
                self._check_one_forward(found, self._two_forwards(rows, micro_batch))
        else:
            found = rows.of_response(output.logits), rows.of_branch(self._branch_logits(micro_batch, rows.layout))
        model_output = super().prepare_model_outputs(output, output_args, micro_batch, logits_processor_func)
        model_output[SET_LOG_PROBS], model_output[BRANCH_SET_LOG_PROBS] = map(rows.jagged, found)
        return model_output

    def _takes_block_mask(self, micro_batch: TensorDict) -> bool:
        if tu.get_non_tensor_data(micro_batch, "use_remove_padding", default=True):
            return False
        implementation = self.model_config.hf_config.get_text_config()._attn_implementation
        return implementation == "sdpa"

    def _branch_logits(self, micro_batch: TensorDict, layout: branch.Layout) -> torch.Tensor:
        """``(B, l, V)``, or ``(1, Σ l, V)`` where padding is removed: prompt and branch in a forward of their own."""
        inputs, _ = super().prepare_model_inputs(branch.separate(micro_batch, layout))
        return self.module(**inputs, use_cache=False).logits

    def _two_forwards(self, rows: _Rows, micro_batch: TensorDict) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, _ = super().prepare_model_inputs(micro_batch)
        response = self.module(**inputs, use_cache=False).logits
        return rows.of_response(response), rows.of_branch(self._branch_logits(micro_batch, rows.layout))

    def _check_one_forward(self, found: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> None:
        """Raise BranchMismatchError unless both agree; ranks stop together, because all check their first batch."""
        # Sets are compared where either way gives them any mass to speak of; -inf (an empty set) equals itself.
        # Not "> -20": NaN on either side must stay in.
        pairs = [(one, two, ~(torch.maximum(one, two) <= -20)) for one, two in zip(found, expected, strict=True)]
        gaps = [(one - two)[compared].abs() for one, two, compared in pairs]
        largest = torch.cat(gaps).max().item()  # NaN where any is
        mean = torch.stack([of_part.mean() for of_part in gaps]).max().item()  # a branch alone may be wrong
        limit = LIMIT.get(self._autocast_dtype, LIMIT_LOW_PRECISION)
        dtype = str(self._autocast_dtype).removeprefix("torch.")
        seen = f"differ by {largest:.1e} at most and {mean:.1e} on average ({dtype})"
        print(f"verl_ext: set log-probs of one forward (response + branch) and of two {seen}")
        if not (largest <= limit.largest and mean <= limit.mean):
            raise BranchMismatchError(
                f"set log-probs of one forward and of two forwards {seen}; the limits are {limit.largest:g} and "
                f"{limit.mean:g}. The attention implementation ignores the block mask. Set "
                "preset.attention=sdpa, or preset.attention=flash_attention_2 with "
                "actor_rollout_ref.model.use_remove_padding=true, which runs two forwards."
            )
        self._one_forward_is_checked = True


class _Rows:
    """Which rows of the logits precede the places asked for, and what token follows each; one micro-batch."""

    def __init__(self, micro_batch: TensorDict, device: torch.device):
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

    def of_branch(self, logits: torch.Tensor, packed_at: int | None = None) -> torch.Tensor:
        """The same from the branch's: behind column ``packed_at`` of the packed rows, else right after the prompt."""
        lengths = [
            prompt + len(ids) for prompt, ids in zip(self.layout.prompt_lengths, self.layout.branches, strict=True)
        ]
        return self._gather(logits, self.branch_positions, self.layout.branches, lengths, packed_at)

    def _gather(
        self,
        logits: torch.Tensor,
        positions: list[torch.Tensor],
        continuations: list[torch.Tensor],
        lengths: list[int],
        packed_at: int | None = None,
    ) -> torch.Tensor:
        rows, labels, sequence_start = [], [], 0
        for index, (places, ids) in enumerate(zip(positions, continuations, strict=True)):
            prompt = self.layout.prompt_lengths[index]
            first = prompt if packed_at is None else packed_at
            # The first token of a continuation is predicted by the prompt's last, wherever the continuation lies.
            column = torch.where(places == 0, prompt - 1, first + places - 1)
            rows.append(logits[0, sequence_start + column] if self.removed_padding else logits[index, column])
            labels.append(ids[places])
            sequence_start += lengths[index]
        return set_log_probs(torch.cat(rows), torch.cat(labels), self.sets)

    def jagged(self, values: torch.Tensor) -> torch.Tensor:
        """``(Σ n_i, S + 1)`` as one flat row a response."""
        parts = values.split([len(places) for places in self.positions])
        return torch.nested.as_nested_tensor([part.flatten() for part in parts], layout=torch.jagged)


def _with_jagged_positions(micro_batch: TensorDict) -> TensorDict:
    """For removed padding: positions ``(4, l_i)`` are ragged in l, also where all rows have the same length."""
    positions = micro_batch["position_ids"]
    removed_padding = tu.get_non_tensor_data(micro_batch, "use_remove_padding", default=True)
    if not removed_padding or positions.dim() < 3 or not positions.is_nested:
        return micro_batch
    lengths = micro_batch["input_ids"].offsets().diff().tolist()
    batch = micro_batch.copy()
    batch["position_ids"] = branch.jagged(branch.position_rows(positions, lengths))
    return batch


def _wanted(micro_batch: TensorDict) -> bool:
    return tu.get_non_tensor_data(micro_batch, TOKEN_SETS, default=None) is not None


@EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cuda", vendor="nvidia")
class SetLogProbsFSDPEngine(SetLogProbsMixin, FSDPEngineWithLMHead):
    """verl's engine for CUDA, with set log-probs."""


@EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cpu")
class CPUFSDPEngine(SetLogProbsMixin, FSDPEngineWithLMHead):
    """The same on a CPU; parameters are never "offloaded to the CPU", where they already are."""

    def _build_fsdp_module(self, module: torch.nn.Module) -> torch.nn.Module:
        if self.engine_config.strategy != "fsdp2":
            raise ValueError(
                "torch's FSDP1 cannot shard a model on a CPU: set the actor's and ref's strategy to fsdp2."
            )
        # A forward-only (reference) engine asks for CPUOffloadPolicy with pinned memory, which needs an accelerator.
        forward_only = self.engine_config.forward_only
        object.__setattr__(self.engine_config, "forward_only", False)
        try:
            return super()._build_fsdp_module(module)
        finally:
            object.__setattr__(self.engine_config, "forward_only", forward_only)
