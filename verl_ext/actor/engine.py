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

Where it can, a micro-batch is one forward with each prompt once (:mod:`verl_ext.actor.shared_prompt`): in the log-prob
passes and in the update, with branches or without. It needs padded rows, an attention that takes a block mask (sdpa),
a policy whose forward has ``logits_at``, and responses. ``model.override_config.shared_prompt=false`` turns it off.
Elsewhere every response has a row of its own, and branches have a second forward.

With verl's ``use_dynamic_bsz``, micro-batches hold complete groups (:mod:`verl_ext.actor.token_limit`), and the update
can use the forward of the log-prob pass again (:mod:`verl_ext.actor.kept_forward`).

:class:`~verl_ext.actor.token_limit.TokenLimitMixin` goes through the micro-batches itself and calls no
``forward_backward_batch`` behind it. So mixins that wrap this method stand before it.

The one forward is compared with plain ones on the first micro-batch that shares anything, before it is used: once with
set log-probs and once without. If they differ, the run says by how much and continues with plain forwards.

Imported once verl's engine module is (see :mod:`verl_ext.plugin`), never before: that import is slow.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.utils.checkpoint
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils import torch_functional as verl_F
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from verl_ext.actor import branch, flex
from verl_ext.actor.answers import AnswersMixin
from verl_ext.actor.compare import Difference
from verl_ext.actor.finite import FiniteMixin
from verl_ext.actor.kept_features import KeptFeaturesMixin
from verl_ext.actor.kept_forward import KeptForwardMixin
from verl_ext.actor.learnt_rows import LearntRowsMixin
from verl_ext.actor.micro_batch import PackedBatch, SetPlaces, asks_for_sets, response_values
from verl_ext.actor.one_rank import OneRankMixin
from verl_ext.actor.token_limit import TokenLimitMixin
from verl_ext.actor.vision_angles import keep_vision_angles
from verl_ext.models.settings import FROZEN, SHARED_PROMPT, SHARED_PROMPT_ATTENTION

SET_LOG_PROBS = "set_log_probs"
BRANCH_SET_LOG_PROBS = "branch_set_log_probs"
_NEEDS_ALL_LOGITS = ("calculate_sum_pi_squared", "distillation_use_topk", "distillation_only", "use_fused_kernels")


class SetLogProbsMixin:
    """For verl's FSDP engine with a language-model head."""

    _differs = False
    """Whether one forward was found to differ from plain ones."""
    _flex = False
    """Whether rows with several continuations use FlexAttention."""
    _compared: frozenset[bool] = frozenset()
    """The kinds of micro-batches, with set log-probs and without, for which it was found not to differ."""

    def _build_module(self) -> torch.nn.Module:
        module = super()._build_module()
        if towers := getattr(self.model_config.hf_config, FROZEN, None):
            module.freeze(towers)
        kind = getattr(self.model_config.hf_config, SHARED_PROMPT_ATTENTION, "sdpa")
        if kind not in ("sdpa", "flex"):
            raise ValueError(f"{SHARED_PROMPT_ATTENTION}={kind!r}: it is sdpa or flex")
        if kind == "flex":
            flex.use_flex(module.thinker.model)
            self._flex = True
        return module

    def _build_fsdp_module(self, module: torch.nn.Module) -> torch.nn.Module:
        module = super()._build_fsdp_module(module)
        keep_vision_angles(module)
        return module

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._can_share_prompts(micro_batch):
            packed = PackedBatch(micro_batch, getattr(self.module, "media_token_ids", ()))
            self._compare_once(packed, micro_batch)
            if not self._differs:
                return self._packed_inputs(packed, micro_batch), {"packed": packed}
        return super().prepare_model_inputs(micro_batch)

    def prepare_model_outputs(
        self, output: Any, output_args: dict[str, Any], micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict[str, Any]:
        if "packed" in output_args:
            return self._packed_outputs(output, output_args["packed"])
        found = {}
        if asks_for_sets(micro_batch):  # first: verl may change the logits in place
            places = SetPlaces(micro_batch)
            found[SET_LOG_PROBS] = places.jagged(places.of_response(output.logits))
            branches = self._branch_logits(micro_batch, places.layout)
            found[BRANCH_SET_LOG_PROBS] = places.jagged(places.of_branch(branches))
        return super().prepare_model_outputs(output, output_args, micro_batch, logits_processor_func) | found

    def _branch_logits(self, micro_batch: TensorDict, layout: branch.Layout) -> torch.Tensor:
        """``(B, l, V)``, or ``(1, Σ l, V)`` where padding is removed: prompt and branch in a forward of their own."""
        inputs, _ = super().prepare_model_inputs(branch.separate(micro_batch, layout))
        return self.module(**inputs, use_cache=False).logits

    def _can_share_prompts(self, micro_batch: TensorDict) -> bool:
        """The same on every rank."""
        config = self.model_config.hf_config
        return (
            not self._differs
            and getattr(config, SHARED_PROMPT, True)
            and not tu.get_non_tensor_data(micro_batch, "use_remove_padding", default=True)
            and config.get_text_config()._attn_implementation in ("sdpa", flex.NAME)
            and getattr(self.module, "takes_logits_at", False)
            and "responses" in micro_batch
            and not any(tu.get_non_tensor_data(micro_batch, name, default=False) for name in _NEEDS_ALL_LOGITS)
        )

    def _packed_inputs(self, packed: PackedBatch, micro_batch: TensorDict) -> dict[str, Any]:
        entropy = None
        if tu.get_non_tensor_data(micro_batch, "calculate_entropy", default=False):
            entropy = self.compute_entropy_from_logits
            if self.engine_config.entropy_checkpointing:
                entropy = partial(torch.utils.checkpoint.checkpoint, entropy, use_reentrant=False)

        def score(logits_NV: torch.Tensor, which: slice) -> torch.Tensor:
            """``(n, 1)``, or ``(n, 2)`` with entropies: as verl's ``prepare_model_outputs``."""
            logits_NV = packed.at_temperature(logits_NV, which)
            columns = [] if entropy is None else [entropy(logits_NV)]
            found = verl_F.logprobs_from_logits(logits_NV, packed.labels(which), inplace_backward=entropy is None)
            return torch.stack([found.float(), *(column.float() for column in columns)], dim=1)

        return packed.inputs(self._flex) | {"score": score}

    def _packed_outputs(self, output: Any, packed: PackedBatch) -> dict[str, torch.Tensor]:
        """What ``prepare_model_outputs`` returns."""
        names = ("log_probs", "entropy")[: output.scores.shape[1]]
        found = {name: packed.as_verl_returns(output.scores[:, column]) for column, name in enumerate(names)}
        if packed.places is not None:
            rows = map(packed.places.jagged, packed.set_log_probs(output.logits))
            found[SET_LOG_PROBS], found[BRANCH_SET_LOG_PROBS] = rows
        return found

    @torch.no_grad()
    def _compare_once(self, packed: PackedBatch, micro_batch: TensorDict) -> None:
        """Compare one forward with plain ones, if that is still to be done and any rank's micro-batch shares a prompt.

        All ranks make the same forwards, because each forward gathers weights, and come to the same decision.
        """
        kind = asks_for_sets(micro_batch)
        if kind in self._compared or not self._on_any_rank(packed.packed.shares):
            return
        with self._autocast(packed.device.type):
            output = self.module(**self._packed_inputs(packed, micro_batch), use_cache=False)
            one = self._packed_outputs(output, packed)
            with self._keeping(False):  # every clip is encoded anew, so that kept features are checked, too
                inputs, output_args = super().prepare_model_inputs(micro_batch)
                output = self.module(**inputs, use_cache=False)
                plain = self.prepare_model_outputs(output, output_args, micro_batch, None)
        difference = Difference.between(_parts(one, micro_batch), _parts(plain, micro_batch), self._autocast_dtype)
        what = "log-probs and set log-probs" if kind else "log-probs"
        print(f"verl_ext: {what} of one forward for all continuations of a prompt and of plain forwards {difference}")
        if self._on_any_rank(not difference.is_small):
            self._differs = True
            limit = difference.limit
            print(
                f"verl_ext: the limits are {limit.largest:g} and {limit.mean:g}, and this rank or another is over "
                "them. The run continues with plain forwards, which is right but slower."
            )
        self._compared |= {kind}

    def _autocast(self, device: str) -> AbstractContextManager:
        """As in verl's ``forward_step``."""
        if self._autocast_dtype == torch.float32:
            return nullcontext()
        return torch.autocast(device_type=device, dtype=self._autocast_dtype)

    def _on_any_rank(self, found: bool) -> bool:
        if not dist.is_initialized():
            return found
        flag = torch.tensor(int(found), device=next(self.module.parameters()).device)
        dist.all_reduce(flag, dist.ReduceOp.MAX, group=self.get_data_parallel_group())
        return bool(flag.item())


def _parts(model_output: dict[str, torch.Tensor], micro_batch: TensorDict) -> dict[str, torch.Tensor]:
    """The log-probs that the trainer reads, flat, by name."""
    found = {"log_probs": response_values(model_output["log_probs"], micro_batch)}
    names = [name for name in (SET_LOG_PROBS, BRANCH_SET_LOG_PROBS) if name in model_output]
    return found | {name: model_output[name].values() for name in names}


@EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cuda", vendor="nvidia")
class SetLogProbsFSDPEngine(
    FiniteMixin,
    KeptFeaturesMixin,
    KeptForwardMixin,
    TokenLimitMixin,
    SetLogProbsMixin,
    LearntRowsMixin,
    AnswersMixin,
    FSDPEngineWithLMHead,
):
    """verl's engine for CUDA, with set log-probs."""


@EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cpu")
class CPUFSDPEngine(
    FiniteMixin,
    KeptFeaturesMixin,
    OneRankMixin,
    KeptForwardMixin,
    TokenLimitMixin,
    SetLogProbsMixin,
    LearntRowsMixin,
    AnswersMixin,
    FSDPEngineWithLMHead,
):
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
