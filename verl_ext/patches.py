"""The few places where verl 0.9.1 and vLLM (0.24.0, 0.28.0) offer no registry. Each patch says what it fixes.

A patch waits for its module (``wrapt.when_imported``): importing verl stays as fast as it was. Every entry of
``PATCHES`` has a test that fails once the release no longer needs it (``tests/verl_ext/test_patches.py``).
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import wrapt

from verl_ext.platform import ports


@dataclass(frozen=True)
class Patch:
    """One fix.

    Attributes:
        name: as the start-up report prints it.
        module: the module that is changed, once it has been imported.
        fixes: the problem, for the report and the docs.
        apply: changes the module.
    """

    name: str
    module: str
    fixes: str
    apply: Callable[[ModuleType], None]


def _gloo_process_group(module: ModuleType) -> None:
    from verl.utils.device import get_device_name

    if get_device_name() != "cpu":
        return
    original = module.initialize_global_process_group_ray

    @functools.wraps(original)
    def initialize_global_process_group_ray(timeout_second: int | None = None, backend: str | None = None) -> None:
        return original(timeout_second, backend or "cpu:gloo")

    module.initialize_global_process_group_ray = initialize_global_process_group_ray


def _omni_processor(module: ModuleType) -> None:
    original = module.hf_processor

    @functools.wraps(original)
    def hf_processor(name_or_path: str, **kwargs: Any) -> Any:
        from transformers import AutoConfig, AutoProcessor

        from verl_ext.models.model import register
        from verl_ext.models.processor import MODEL_TYPES, bind

        try:
            config = AutoConfig.from_pretrained(name_or_path, **kwargs)
        except (OSError, ValueError):  # a folder with a tokenizer alone, say: verl goes on without a processor
            return original(name_or_path, **kwargs)
        if config.model_type not in MODEL_TYPES:
            return original(name_or_path, **kwargs)
        # The processor is loaded wherever the model is; verl looks the model class up later.
        register()
        return bind(AutoProcessor.from_pretrained(name_or_path, **kwargs), config)

    module.hf_processor = hf_processor
    # The packages above re-export the function and may have done so already.
    for name in ("verl.utils.tokenizer", "verl.utils"):
        parent = sys.modules.get(name)
        if parent is not None and getattr(parent, "hf_processor", None) is original:
            parent.hf_processor = hf_processor


def _omni_rollout(module: ModuleType) -> None:
    from verl_ext.models.processor import collapse_media, is_omni, media_token_ids

    dedup, banned, max_positions = (
        module.qwen2_5_vl_dedup_image_tokens,
        module.get_vision_placeholder_token_ids,
        module.get_max_position_embeddings,
    )

    @functools.wraps(dedup)
    def qwen2_5_vl_dedup_image_tokens(prompt_ids: list[int], processor: Any) -> list[int]:
        return collapse_media(list(prompt_ids), processor) if is_omni(processor) else dedup(prompt_ids, processor)

    @functools.wraps(banned)
    def get_vision_placeholder_token_ids(processor: Any) -> list[int]:
        return media_token_ids(processor) if is_omni(processor) else banned(processor)

    @functools.wraps(max_positions)
    def get_max_position_embeddings(hf_config: Any) -> int:
        return max_positions(getattr(hf_config, "thinker_config", hf_config))

    module.qwen2_5_vl_dedup_image_tokens = qwen2_5_vl_dedup_image_tokens
    module.get_vision_placeholder_token_ids = get_vision_placeholder_token_ids
    module.get_max_position_embeddings = get_max_position_embeddings


def _omni_boundary_tokens(module: ModuleType) -> None:
    module._MODEL_TYPE_TO_FAMILY["qwen2_5_omni"] = module.ContinuousTokenModelFamily.QWEN25_VL


def _replay_poll(module: ModuleType) -> None:
    original = module.ReplayBuffer.__init__

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        # verl has no key for it; `sampler_kwargs` is its free-form mapping for samplers.
        self.poll_interval = float((self.sampler_kwargs or {}).get("poll_interval", self.poll_interval))

    module.ReplayBuffer.__init__ = __init__


def _file_logger_appends(module: ModuleType) -> None:
    original = module.FileLogger.__init__

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        path = os.environ.get("VERL_FILE_LOGGER_PATH")
        kept = Path(path).read_bytes() if path and Path(path).exists() else b""
        original(self, *args, **kwargs)
        self.fp.write(kept)

    module.FileLogger.__init__ = __init__


def _log_probs_in_chunks(module: ModuleType) -> None:
    from verl_ext.actor.log_probs import log_probs_of_labels

    module.logprobs_from_logits_v2 = log_probs_of_labels


def _positions_of_equal_lengths(module: ModuleType) -> None:
    from verl_ext.actor.branch import ragged_positions

    def maybe_fix_3d_position_ids(data: Any) -> None:
        positions = data.get("position_ids", None)
        if positions is not None and positions.is_nested and positions.dim() == 3:
            data["position_ids"] = ragged_positions(data)

    module.maybe_fix_3d_position_ids = maybe_fix_3d_position_ids


def _saved_weights_are_copies(module: ModuleType) -> None:
    original = module.fsdp2_sharded_save_to_cpu

    @functools.wraps(original)
    def fsdp2_sharded_save_to_cpu(model: Any) -> tuple[dict[str, tuple[Any, Any]], Any]:
        saved, spec = original(model)
        if next(model.parameters()).device.type == "cpu":
            saved = {name: (tensor.clone(), its_spec) for name, (tensor, its_spec) in saved.items()}
        return saved, spec

    module.fsdp2_sharded_save_to_cpu = fsdp2_sharded_save_to_cpu


class _WithoutFlush(logging.LoggerAdapter):
    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        kwargs.pop("flush", None)
        return msg, kwargs


def _separate_async_log(module: ModuleType) -> None:
    module.logger = _WithoutFlush(module.logger)


def _weight_socket(module: ModuleType) -> None:
    from verl_ext.rollout import weight_socket

    weight_socket.patch_sender(module)


def _workers_port(module: ModuleType) -> None:
    original = module.RayWorkerGroup._get_master_addr_port

    @functools.wraps(original)
    def _get_master_addr_port(self: Any, pg: Any, bundle_index: int = 0, master_port_range: Any = None) -> None:
        # verl searches this range on the node of rank 0; its trainers leave the argument None.
        original(self, pg, bundle_index, master_port_range or ports.port_range())

    module.RayWorkerGroup._get_master_addr_port = _get_master_addr_port


VERL_PATCHES = (
    Patch(
        "gloo process group",
        "verl.utils.distributed",
        "verl 0.9.1 asks for the backend 'cpu:gloo,cpu:gloo' on a CPU; torch rejects it",
        _gloo_process_group,
    ),
    Patch(
        "omni processor",
        "verl.utils.tokenizer.tokenizer",
        "verl 0.9.1 replaces a processor that it does not know by None, with a warning",
        _omni_processor,
    ),
    Patch(
        "omni rollout",
        "verl.workers.rollout.utils",
        "verl 0.9.1 collapses and bans image and video placeholders, but not audio placeholders; it looks for "
        "max_position_embeddings at the top level of the config",
        _omni_rollout,
    ),
    Patch(
        "omni boundary tokens",
        "verl.utils.tokenizer.continuous_token_wiring",
        "verl 0.9.1's table of chat formats has no qwen2_5_omni",
        _omni_boundary_tokens,
    ),
    Patch(
        "replay buffer poll",
        "verl.trainer.ppo.v1.replay_buffer",
        "verl 0.9.1 always polls every 2 s; the patch reads trainer.v1.sampler.sampler_kwargs.poll_interval",
        _replay_poll,
    ),
    Patch(
        "file logger appends",
        "verl.utils.tracking",
        "verl 0.9.1 empties the metrics file when a run resumes",
        _file_logger_appends,
    ),
    Patch(
        "log-probs in chunks",
        "verl.utils.torch_functional",
        "verl 0.9.1 without flash-attn normalises logits one token per call, and those in bf16 in bf16",
        _log_probs_in_chunks,
    ),
    Patch(
        "positions of equal lengths",
        "verl.utils.tensordict_utils",
        "verl 0.9.1 cuts M-RoPE positions by channels, not by tokens, where all sequences of a batch are equally long",
        _positions_of_equal_lengths,
    ),
    Patch(
        "saved weights are copies",
        "verl.utils.fsdp_utils",
        "verl 0.9.1 does not copy saved weights that are on the CPU, so training changes the saved weights",
        _saved_weights_are_copies,
    ),
    Patch(
        "separate-async log",
        "verl.trainer.ppo.v1.trainer_separate_async",
        "verl 0.9.1 passes print's flush=True to a logger, a TypeError, if the actor's pool has no own rollout",
        _separate_async_log,
    ),
    Patch(
        "weight socket",
        "verl.workers.rollout.vllm_rollout.vllm_rollout",
        "verl 0.9.1 gives all runs on a machine with Ray clusters of their own the same socket for new weights",
        _weight_socket,
    ),
    Patch(
        "workers' port",
        "verl.single_controller.ray.base",
        "verl 0.9.1 releases its workers' port long before they open it; another process may take the port",
        _workers_port,
    ),
)


def install(patches: tuple[Patch, ...]) -> None:
    """Apply each patch now if its module is loaded, else right after it will have been imported."""
    for patch in patches:
        wrapt.register_post_import_hook(patch.apply, patch.module)
