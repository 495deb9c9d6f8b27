"""A log-prob pass whose forward the update uses again, so that the update is a backward only.

Where a batch makes one update, the pass before it and the update compute the same forward with the same weights. The
pass is still needed if something that it returns (set log-probs) goes into the advantages. With the non-tensor field
``keep_forwards``, the most micro-batches that a rank may keep, the pass runs with gradients and keeps its log-probs and
entropies with their graph. The update then computes its loss from these. Values are those of the pass, to the bit.

Memory: the activations of all kept micro-batches at once, where an update has those of one. So a pass of more
micro-batches than allowed keeps nothing. Nothing is kept either where the update gets other samples, or another
temperature; it then makes its own forward, on every rank. What was kept is dropped with the first update.

Imported as :mod:`verl_ext.actor.engine` is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_id

KEEP_FORWARDS = "keep_forwards"
_KEPT = ("log_probs", "entropy")


@dataclass
class _Forwards:
    """Of the micro-batches of a pass, in its order."""

    samples: list[Hashable]
    """Who they are, in the order of the pass."""
    temperature: Any
    parts: list[list[int]]
    """Indices of the samples of each micro-batch."""
    outputs: list[dict[str, torch.Tensor]] = field(default_factory=list)
    """``log_probs`` and ``entropy`` of each micro-batch, jagged ``(B, prompt + response)``, with their graph."""


class KeptForwardMixin:
    """For verl's FSDP engine, before :class:`~verl_ext.actor.token_limit.TokenLimitMixin`, whose parts it keeps."""

    _forwards: _Forwards | None = None
    _keeps = False
    """Whether the pass in hand keeps its forwards."""
    _uses = False
    """Whether the update in hand uses them."""
    _last_output: dict[str, torch.Tensor] | None = None

    def forward_backward_batch(
        self, data: TensorDict, loss_function: Callable | None, forward_only: bool = False
    ) -> Any:
        """As verl's."""
        if forward_only and not _most(data):  # of something else, as a validation loss
            return super().forward_backward_batch(data, loss_function, forward_only=True)
        if forward_only:
            self._forwards = None  # of a pass without an update
        trains = self.module.training
        try:
            return super().forward_backward_batch(data, loss_function, forward_only=forward_only)
        finally:
            self._keeps = self._uses = False
            self._last_output = None
            self.module.train(trains)
            if not forward_only:
                self._forwards = None

    def _parts(self, data: TensorDict) -> list[list[int]]:
        if most := _most(data):
            parts = super()._parts(data)
            samples = _samples(data)
            if self._on_every_rank(samples is not None and len(parts) <= most):
                self._keeps, self._forwards = True, _Forwards(samples, data["temperature"], parts)
                self.module.train()  # gradient checkpointing wants it
            return parts
        if self._forwards is not None:
            parts = _parts_in(data, self._forwards)
            if self._on_every_rank(parts is not None):
                self._uses = True
                return parts
        return super()._parts(data)

    def _step(
        self, micro_batch: TensorDict, loss_function: Callable | None, forward_only: bool, last: bool
    ) -> dict[str, Any]:
        if self._keeps:
            with torch.enable_grad():
                output = self.forward_step(micro_batch, loss_function=loss_function, forward_only=True)[1]
            self._forwards.outputs.append(self._last_output)
            return output
        return super()._step(micro_batch, loss_function, forward_only, last)

    def forward_step(self, micro_batch: TensorDict, loss_function: Callable | None, forward_only: bool) -> Any:
        """As verl's; with a kept forward only the loss is computed."""
        if not self._uses:
            return super().forward_step(micro_batch, loss_function=loss_function, forward_only=forward_only)
        micro_batch = micro_batch.to(get_device_id())
        model_output = self._forwards.outputs.pop(0)
        if not tu.get_non_tensor_data(micro_batch, "calculate_entropy", default=False):
            model_output.pop("entropy", None)
        with self._autocast(micro_batch["input_ids"].device.type):
            loss, metrics = loss_function(
                model_output=model_output, data=micro_batch, dp_group=self.get_data_parallel_group()
            )
        detached = {name: values.detach() for name, values in model_output.items()}
        return loss, {"model_output": detached, "loss": loss.detach().item(), "metrics": metrics}

    def prepare_model_outputs(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As verl's."""
        found = super().prepare_model_outputs(*args, **kwargs)
        if self._keeps:
            self._last_output = {name: found[name] for name in _KEPT if name in found}
        return found

    def _on_every_rank(self, found: bool) -> bool:
        return not self._on_any_rank(not found)


def keeps_forwards(data: TensorDict) -> bool:
    """Whether a pass is asked to keep its forwards."""
    return _most(data) > 0


def _most(data: TensorDict) -> int:
    return tu.get_non_tensor_data(data, KEEP_FORWARDS, default=0)


def _samples(data: TensorDict) -> list[Hashable] | None:
    """Who the samples are; None where they have no uid: their tokens do not say which clip they are about."""
    uids = tu.get(data, "uid")
    if uids is None:
        return None
    return [(uid, ids.cpu().numpy().tobytes()) for uid, ids in zip(uids, data["input_ids"].unbind(), strict=True)]


def _parts_in(data: TensorDict, kept: _Forwards) -> list[list[int]] | None:
    """The kept micro-batches, as indices of another order of the same samples; None where these are others."""
    samples = _samples(data)
    if samples is None or _numbers(data["temperature"]) != _numbers(kept.temperature):
        return None
    places: dict[Hashable, list[int]] = {}
    for place, sample in enumerate(samples):
        places.setdefault(sample, []).append(place)
    if len(samples) != len(kept.samples):
        return None
    order = []
    for sample in kept.samples:  # equal samples have equal log-probs
        found = places.get(sample)
        if not found:
            return None
        order.append(found.pop())
    return [[order[index] for index in part] for part in kept.parts]


def _numbers(temperature: Any) -> list[float]:
    """One for all samples, or one each."""
    return torch.as_tensor(temperature).flatten().tolist()
