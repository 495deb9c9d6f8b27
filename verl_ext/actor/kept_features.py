"""Where encoders are frozen, a step of RL encodes each clip once, and not once in each of its passes.

The passes are the old log-probs, the reference policy and the updates. The actor and the reference policy are in one
process and share the features of an encoder if its weights are the same in both, which is checked after the weights
are loaded. The features are forgotten when an update ends. ``model.override_config.kept_features_mib`` is the memory
for them on each rank; 0 computes them in every pass.

An encoder is frozen if none of its weights is trained: ``frozen_towers`` names it, or LoRA leaves it as it is. One with
dropout is computed in every pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from tensordict import TensorDict
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerForConditionalGeneration

from verl_ext.models.kept_features import FeatureStore, KeptAudio, KeptTower, KeptVision, fingerprint_of_weights
from verl_ext.models.settings import KEPT_FEATURES

STORE = FeatureStore()
"""Of this process."""
DEFAULT_MIB = 1024


class KeptFeaturesMixin:
    """For verl's FSDP engine; needs FSDP2."""

    _kept: tuple[KeptTower, ...] = ()
    """The towers whose features can be kept. Of a reference policy: all of them."""
    _told: frozenset[str] = frozenset()
    _trains = True
    """Not of a reference policy."""
    _updates = 0
    """How many contexts of training are open."""

    def _build_fsdp_module(self, module: torch.nn.Module) -> torch.nn.Module:
        # Before anything switches an adapter off: peft then says that its weights are not trained.
        limit = int(getattr(self.model_config.hf_config, KEPT_FEATURES, DEFAULT_MIB)) * 2**20
        if self.engine_config.strategy == "fsdp2" and limit > 0:
            self._kept = tuple(_keep(module, frozen=not self._trains))
            STORE.limit = limit
        return super()._build_fsdp_module(module)

    def initialize(self) -> None:
        self._trains = not self.engine_config.forward_only  # here: on a CPU it changes while the module is built
        super().initialize()
        self._identify_trained()

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super().load_checkpoint(*args, **kwargs)
        self._identify_trained()

    def _identify(self) -> None:
        """Find out which weights the towers have, on all ranks."""
        for tower in self._kept:
            tower.weights = _of_all_ranks(fingerprint_of_weights(tower.tower, self._autocast_dtype))

    def _identify_trained(self) -> None:
        """The same for a model that is trained, and tell the reference policy. Nothing for a reference policy."""
        if not self._trains:
            return
        STORE.clear()
        before = {tower.weights for tower in self._kept}
        self._identify()
        STORE.weights = STORE.weights - before | {tower.weights for tower in self._kept}
        names = ", ".join(tower.name for tower in self._kept)
        self._tell(names and f"features of frozen encoders ({names}) are kept for a step: {STORE.limit >> 20} MiB")

    def _tell(self, text: str) -> None:
        """Print it once, on one rank."""
        if text and text not in self._told and (not dist.is_initialized() or dist.get_rank() == 0):
            print(f"verl_ext: {text}")
        self._told |= {text}

    def forward_backward_batch(self, data: TensorDict, loss_function: Any, forward_only: bool = False) -> Any:
        # Supervised fine-tuning sees a clip once in a step.
        with self._keeping("responses" in data):
            return super().forward_backward_batch(data, loss_function, forward_only=forward_only)

    @contextmanager
    def _keeping(self, on: bool) -> Iterator[None]:
        """Keep features, or compute all."""
        if on and STORE.weights and any(tower.weights is None for tower in self._kept):
            self._identify()  # of a reference policy: only where there is something to share
        before = [tower.active for tower in self._kept]
        for tower in self._kept:
            tower.active = on and tower.weights in STORE.weights
        if on and STORE.weights and (own := [tower.name for tower in self._kept if not tower.active]):
            self._tell(
                f"the reference policy shares no features of: {', '.join(own)}. The actor's are trained or others"
            )
        try:
            yield
        finally:
            for tower, active in zip(self._kept, before, strict=True):
                tower.active = active

    @contextmanager
    def train_mode(self, **kwargs: Any) -> Iterator[Any]:
        """verl's; the outermost ends a step's updates."""
        self._updates += 1
        try:
            with super().train_mode(**kwargs) as entered:
                yield entered
        finally:
            self._updates -= 1
            if not self._updates:
                STORE.clear()


def _keep(module: torch.nn.Module, frozen: bool) -> Iterator[KeptTower]:
    """The towers of the Thinker in a module that are not trained; with ``frozen`` none is."""
    for thinker in module.modules():
        if not isinstance(thinker, Qwen2_5OmniThinkerForConditionalGeneration):
            continue
        for tower, kind in ((thinker.visual, KeptVision), (thinker.audio_tower, KeptAudio)):
            trained = not frozen and any(parameter.requires_grad for parameter in tower.parameters())
            dropout = any(value for name, value in tower.config.to_dict().items() if "drop" in name)
            if not trained and not dropout:
                yield kind(tower, STORE)


def _of_all_ranks(found: Any) -> tuple[Any, ...]:
    if not dist.is_initialized():
        return (found,)
    every = [None] * dist.get_world_size()
    dist.all_gather_object(every, found)
    return tuple(every)
