"""Supervised fine-tuning without what its loss does not read: the head runs on the learnt tokens' rows alone.

verl's forward makes logits of every token, padding included, and takes the log-prob of each; its loss then reads those
of the reply. A prompt with a video is most of the tokens: the tiny preset learns a fifth of its rows. With a vocabulary
of 152,000, logits and their gradient are most of a step's memory; here few are in memory at a time
(:mod:`verl_ext.models.head`).

The forward has no attention mask either. Padding is on the right, where no token of a causal model sees it, and
without a mask SDPA may use its causal kernels.
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils import torch_functional as verl_F

_NEEDS_ALL_ROWS = (
    "calculate_entropy",
    "calculate_sum_pi_squared",
    "distillation_use_topk",
    "distillation_only",
    "return_model_output",
    "use_fused_kernels",
)


class LearntRows:
    """The places of a micro-batch whose next token is learnt.

    Args:
        input_ids: jagged ``(B, l_i)``.
        loss_mask: jagged ``(B, l_i)``, not 0 where a token is learnt.
    """

    def __init__(self, input_ids: torch.Tensor, loss_mask: torch.Tensor):
        self._offsets = input_ids.offsets()
        lengths = self._offsets.diff()
        # As verl's loss: over the ends of sequences, too.
        self._flat = loss_mask.values().roll(-1).nonzero()[:, 0]
        self.labels = input_ids.values().roll(-1)[self._flat]
        sequence = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)[self._flat]
        self.padded = sequence * lengths.max() + self._flat - self._offsets[sequence]
        """``(N,)`` places in the rows as verl pads them, flattened."""

    def inputs(self, plain: dict[str, Any]) -> dict[str, Any]:
        """verl's arguments of the forward, padded on the right, changed to score these places alone."""
        return plain | {
            "attention_mask": None,
            # Without the text order, from which transformers would make a mask.
            "position_ids": plain["position_ids"][-3:],
            "logits_at": self.padded[:0],
            "scores_at": self.padded,
            "score": self._score,
        }

    def _score(self, logits_NV: torch.Tensor, which: slice) -> torch.Tensor:
        return verl_F.logprobs_from_logits(logits_NV, self.labels[which]).float()[:, None]

    def as_verl_returns(self, scores_N: torch.Tensor) -> torch.Tensor:
        """Log-probs, jagged ``(B, l_i)``; 0 where nothing is learnt."""
        values = scores_N.new_zeros(int(self._offsets[-1])).index_put((self._flat,), scores_N)
        return torch.nested.nested_tensor_from_jagged(values, self._offsets)


class LearntRowsMixin:
    """For verl's FSDP engine with a language-model head; changes the updates of supervised fine-tuning alone."""

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
        inputs, output_args = super().prepare_model_inputs(micro_batch)
        if self._scores_learnt_rows(micro_batch) and inputs["position_ids"].dim() == 3:
            rows = LearntRows(micro_batch["input_ids"], micro_batch["loss_mask"])
            return rows.inputs(inputs), {"learnt": rows}
        return inputs, output_args

    def prepare_model_outputs(
        self, output: Any, output_args: dict[str, Any], micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict[str, Any]:
        if "learnt" in output_args:
            return {"log_probs": output_args["learnt"].as_verl_returns(output.scores[:, 0])}
        return super().prepare_model_outputs(output, output_args, micro_batch, logits_processor_func)

    def _scores_learnt_rows(self, micro_batch: TensorDict) -> bool:
        """The same on every rank. RL's micro-batches have responses."""
        return (
            torch.is_grad_enabled()
            and "responses" not in micro_batch
            and "loss_mask" in micro_batch
            and getattr(self.module, "takes_logits_at", False)
            and self.model_config.hf_config.get_text_config()._attn_implementation == "sdpa"
            and not tu.get_non_tensor_data(micro_batch, "use_remove_padding", default=True)
            and _is_one(tu.get_non_tensor_data(micro_batch, "temperature", default=None))
            and not any(tu.get_non_tensor_data(micro_batch, name, default=False) for name in _NEEDS_ALL_ROWS)
        )


def _is_one(temperature: Any) -> bool:
    """Not a temperature for each sample, which is a tensor."""
    return not isinstance(temperature, torch.Tensor) and temperature == 1.0
