"""Settings of verl that do not work, with Qwen2.5-Omni's Thinker or at all, refused by name before a worker starts.

Most of them would crash a worker, or let it wait. Removed padding without FlashAttention would train on wrong numbers:
the sequences of a micro-batch would see each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig

TRAINED = ("actor_rollout_ref", "model", "engine")
"""Parts that this recipe uses: the first of RL, the others of SFT. verl's critic has these keys, but is never built."""
FLASH = ("flash_attention_2", "flash_attention_3")
EXECUTORS = ("uni", "mp")
BLOCK_TOKENS = {"cpu": 128, "cuda": 16}
"""Tokens in a block of vLLM's KV cache by device, where no block_size is given."""


class UnsupportedError(ValueError):
    """A setting that cannot work; the message names its key and what to do."""


def check_unsupported(config: DictConfig) -> None:
    """Refuse such a setting in a configuration of RL or SFT.

    Raises:
        UnsupportedError: the first one found.
    """
    ranks = config.preset.nnodes * config.preset.ranks_per_node
    if "actor_rollout_ref" in config:
        _check_executor(config.actor_rollout_ref.rollout)
        _check_kv_blocks(config.actor_rollout_ref.rollout, config.preset.device)
    for key, value in _leaves({root: config[root] for root in TRAINED if root in config}):
        name = key.rsplit(".", 1)[-1]
        if name == "use_fused_kernels" and value:
            raise UnsupportedError(
                f"{key}={value}: verl's fused kernels replace a forward that the Thinker does not have. Use false."
            )
        if name == "ulysses_sequence_parallel_size" and value and value > 1:
            raise UnsupportedError(
                f"{key}={value}: verl cuts a sequence before its clip is embedded, so the Thinker cannot be trained "
                "with Ulysses. Set it to 1; for long prompts lower preset.media.max_frames or max_pixels."
            )
        if name == "use_remove_padding" and value and config.preset.attention not in FLASH:
            raise UnsupportedError(
                f"{key}={value}: with preset.attention={config.preset.attention} the sequences of a micro-batch would "
                "see each other. Set preset.attention=flash_attention_2 (needs flash-attn), or the key to false."
            )
        sharded = key.endswith(("fsdp_config.fsdp_size", "engine.fsdp_size")) and 0 <= value < ranks
        if sharded and (value == 0 or ranks % value):
            raise UnsupportedError(
                f"{key}={value}: the {ranks} ranks cannot make groups of {value}, each with the whole model. Set "
                "preset.fsdp_size to a divisor of their number, or to -1 for one group of all."
            )


def check_shared_prompt_attention(config: DictConfig) -> None:
    """Refuse an attention for rows of complete groups that is unknown or cannot train here.

    Raises:
        UnsupportedError: says what to set.
    """
    key, kind = "mer_r1.shared_prompt_attention", config.mer_r1.shared_prompt_attention
    if kind not in ("sdpa", "flex"):
        raise UnsupportedError(f"{key}={kind}: choose sdpa or flex.")
    if kind == "flex" and config.preset.device == "cpu":
        raise UnsupportedError(f"{key}=flex: FlexAttention has no backward pass on a CPU. Use sdpa.")
    if kind == "flex" and config.preset.attention != "sdpa":
        raise UnsupportedError(
            f"{key}=flex: with preset.attention={config.preset.attention} no row holds a complete group. "
            "Set preset.attention=sdpa, or the key to sdpa."
        )


def _check_executor(rollout: DictConfig) -> None:
    """Where vLLM's workers run, known and possible."""
    key = "preset.rollout.executor (actor_rollout_ref.rollout.engine_kwargs.vllm.distributed_executor_backend)"
    executor = rollout.engine_kwargs.vllm.get("distributed_executor_backend", "mp")
    if executor not in EXECUTORS:
        raise UnsupportedError(f"{key}={executor}: unknown executor of vLLM; use one of {', '.join(EXECUTORS)}.")
    workers = rollout.tensor_model_parallel_size * rollout.pipeline_model_parallel_size
    if executor == "uni" and workers > 1:
        raise UnsupportedError(
            f"{key}=uni: this is one worker in the engine's process, but preset.rollout.tensor_parallel="
            f"{rollout.tensor_model_parallel_size} (× pipeline_model_parallel_size="
            f"{rollout.pipeline_model_parallel_size}) asks for {workers}; it would wait for the others. Use "
            "preset.rollout.executor=mp."
        )


def _check_kv_blocks(rollout: DictConfig, device: str) -> None:
    """A KV cache of a given size holds the longest sequence; otherwise vLLM stops late, or the sequence waits."""
    key = "preset.rollout.kv_blocks (actor_rollout_ref.rollout.engine_kwargs.vllm.num_gpu_blocks_override)"
    vllm = rollout.engine_kwargs.vllm
    blocks = vllm.get("num_gpu_blocks_override")
    if blocks is None:
        return
    if isinstance(blocks, bool) or not isinstance(blocks, int):
        raise UnsupportedError(f"{key}={blocks}: give a whole number of blocks, or null for as many as fit in memory.")
    length, size = rollout.max_model_len, vllm.get("block_size") or BLOCK_TOKENS.get(device, min(BLOCK_TOKENS.values()))
    least = -(-(length or 1) // size) + 1  # vLLM keeps one block for itself
    if blocks < least:
        raise UnsupportedError(
            f"{key}={blocks}: a sequence of {length} tokens (preset.max_prompt_length + max_response_length) needs "
            f"{least} blocks of {size} tokens, one of them for vLLM itself. Give more, or null for as many as fit in "
            "memory."
        )


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its value, depth first."""
    for name, value in node.items():
        if isinstance(value, DictConfig):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
