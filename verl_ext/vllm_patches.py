"""The patches of vLLM (0.24.0, 0.28.0), which :mod:`verl_ext.vllm_plugin` installs in every process of vLLM's.

As :mod:`verl_ext.patches`: each says what it fixes, and has a test that fails once it is no longer needed.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from verl_ext.patches import Patch
from verl_ext.platform import ports


def _engines_port(module: ModuleType) -> None:
    original = module._get_open_port

    @functools.wraps(original)
    def _get_open_port(*args: Any, **kwargs: Any) -> int:
        asked = args or kwargs or module.envs.VLLM_PORT is not None
        return original(*args, **kwargs) if asked else ports.free_port()

    module._get_open_port = _get_open_port


def _vllm_keeps_weights(module: ModuleType) -> None:
    import torch

    def dispatch_cpu_unquantized_gemm(layer: torch.nn.Module, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    module.dispatch_cpu_unquantized_gemm = dispatch_cpu_unquantized_gemm


def _seeds_in_mixed_batches(module: ModuleType) -> None:
    module.TopKTopPSampler.forward_cpu = module.TopKTopPSampler.forward_native


VLLM_PATCHES = (
    Patch(
        "engine's port",
        "vllm.utils.network_utils",
        "vLLM 0.24.0 and 0.28.0 release their workers' port long before they open it; another process may take it",
        _engines_port,
    ),
)

VLLM_CPU_PATCHES = (
    Patch(
        "vllm keeps weights",
        "vllm.model_executor.layers.utils",
        "vLLM 0.24.0 and 0.28.0 on a CPU pack and then free the weight of a linear layer; new weights cannot be loaded",
        _vllm_keeps_weights,
    ),
    Patch(
        "seeds in mixed batches",
        "vllm.v1.sample.ops.topk_topp_sampler",
        "vLLM 0.24.0 and 0.28.0 on a CPU ignore the seeds of all requests of a step if one request has none (greedy "
        "ones never do), and compile their sampler for it, for half a minute",
        _seeds_in_mixed_batches,
    ),
)
