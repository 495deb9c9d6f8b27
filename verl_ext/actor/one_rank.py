"""What one rank on a CPU need not pay for: weights gathered twice in an update, and an optimizer of many small steps.

FSDP2 drops the gathered weights of a layer after its forward, and gathers them again for its backward. With one rank
both are copies, and memory is no reason. AdamW without ``fused`` makes fourteen calls for each weight, each through
DTensor's dispatch.
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict

from verl_ext.actor.kept_forward import keeps_forwards


class OneRankMixin:
    """For verl's FSDP engine on a CPU with FSDP2."""

    _drops_gathered: bool | None = None
    """Whether a forward drops gathered weights, as it was set last."""

    def forward_backward_batch(self, data: TensorDict, loss_function: Any, forward_only: bool = False) -> Any:
        """verl's. An update of one rank gathers each layer's weights once; its backward drops them.

        Without a backward they are dropped after the forward: others change and read the sharded weights.
        """
        drops = forward_only and not keeps_forwards(data)
        if self.device_mesh.size() == 1 and self.engine_config.reshard_after_forward and self._drops_gathered != drops:
            self.module.set_reshard_after_forward(drops)
            self._drops_gathered = drops
        return super().forward_backward_batch(data, loss_function, forward_only=forward_only)

    def _build_optimizer(self, module: torch.nn.Module) -> torch.optim.Optimizer:
        """verl's; torch's AdamW updates all weights in one call, unless the configuration says how it should."""
        config, chosen = self.optimizer_config, self.optimizer_config.override_optimizer_config or {}
        if (config.optimizer_impl, config.optimizer) != ("torch.optim", "AdamW") or {"fused", "foreach"} & {*chosen}:
            return super()._build_optimizer(module)
        object.__setattr__(config, "override_optimizer_config", {**chosen, "fused": True})
        try:
            return super()._build_optimizer(module)
        finally:
            object.__setattr__(config, "override_optimizer_config", chosen or None)
