"""verl's FSDP engine on a CPU. verl registers its own for CUDA and NPU only.

Imported once verl's engine module is (see :mod:`verl_ext.plugin`), never before: that import is slow.
"""

from __future__ import annotations

import torch
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead


@EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cpu")
class CPUFSDPEngine(FSDPEngineWithLMHead):
    """The same engine; parameters are never "offloaded to the CPU", where they already are."""

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
