"""A loss or gradient that is not a finite number ends the run, before the optimizer changes a weight.

verl 0.9.1 prints ``WARN: grad_norm is not finite``, skips this update and goes on: the metrics of the step are NaN, and
where the cause stays, so does every update after it, while the run keeps its devices to the end.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from tensordict import TensorDict
from verl.utils.device import get_device_id

_ADVICE = (
    "No weight was changed by this update. Likely cause: the learning rate is too high, the weights of the model are "
    "damaged, or a 16-bit number has overflowed. Lower the learning rate (actor_rollout_ref.actor.optim.lr; SFT: "
    "optim.lr), check the model, and repeat the command: it resumes from the last checkpoint."
)


class NonFiniteError(RuntimeError):
    """A loss or the gradients of an update are NaN or infinite; the message says which and what to change."""


class FiniteMixin:
    """For verl's FSDP engine. Every rank raises, so that none waits for another.

    With fp16, verl's gradient scaler looks for overflows itself and lowers its scale; such steps are left to it.
    """

    _losses: tuple[float, ...] = ()
    """Of the micro-batches of the update in hand."""

    def forward_backward_batch(self, data: TensorDict, loss_function: Any, forward_only: bool = False) -> Any:
        """verl's."""
        output = super().forward_backward_batch(data, loss_function, forward_only=forward_only)
        self._losses = () if forward_only else tuple(map(float, output["loss"]))
        return output

    def optimizer_step(self) -> float:
        """verl's, unless the loss of a micro-batch on any rank, or the norm of the gradients, is not finite.

        Raises:
            NonFiniteError: it is not. The weights, the optimizer and its state are as before; the gradients are 0.
        """
        if getattr(self, "scaler", None) is not None:
            return super().optimizer_step()
        wrong = [number for number, loss in enumerate(self._losses, 1) if not math.isfinite(loss)]
        if self._any_rank(bool(wrong)):
            self.optimizer.zero_grad()
            raise NonFiniteError(f"{self._said(wrong)}. {_ADVICE}")
        norm = super().optimizer_step()  # which skips the update where the norm is not finite
        if not math.isfinite(norm):
            raise NonFiniteError(f"the norm of the gradients is {norm}, with a finite loss. {_ADVICE}")
        return norm

    def _said(self, wrong: list[int]) -> str:
        if not wrong:
            return "the loss of another rank is not a finite number"
        value, rank = self._losses[wrong[0] - 1], dist.get_rank() if dist.is_initialized() else 0
        return f"the loss of micro-batch {wrong[0]} of {len(self._losses)} on rank {rank} is {value}"

    def _any_rank(self, found: bool) -> bool:
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return found
        flag = torch.tensor(int(found)).to(get_device_id())
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag.item())
