"""Write a Thinker's weights as a full Qwen2.5-Omni checkpoint, which transformers, verl and vLLM load alike.

Layout: a `Qwen2_5OmniConfig` with `thinker_config`, architectures `["Qwen2_5OmniModel"]`, tensors under `thinker.`.
The talker and token2wav are left out, and the config says so (`enable_audio_output: false`). A checkpoint of the
Thinker alone loads in transformers but not in vLLM.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from transformers import GenerationConfig, Qwen2_5OmniConfig, Qwen2_5OmniProcessor

from verl_ext.models.settings import OF_THE_RUN

PREFIX = "thinker."
_MAX_SHARD = "5GB"


def save_full_omni(
    out: str | Path,
    state: Mapping[str, torch.Tensor],
    config: Qwen2_5OmniConfig,
    processor: Qwen2_5OmniProcessor,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write weights, generation config, processor, tokenizer and, last, the config to the folder `out`.

    A folder with `config.json` is therefore complete, also where a run was cut off: an earlier export's config and
    weights go first, so that none of its shards stay among the new ones.

    Args:
        out: folder, made if absent; an earlier export in it is replaced.
        state: the Thinker's tensors by name, with or without the prefix `thinker.`.
        config: the full Omni config; it is copied, not changed.
        processor: with its tokenizer.
        dtype: of the saved floating-point tensors; None is the config's own (:func:`own_dtype`).

    Returns:
        The folder.

    Raises:
        ValueError: `state` is empty, or `config` is a Thinker's alone.
    """
    if not state:
        raise ValueError("no tensors to save")
    if not hasattr(config, "thinker_config"):
        raise ValueError(f"{type(config).__name__} is not a full Omni config: it has no thinker_config")
    dtype = dtype or own_dtype(config)
    tensors = {
        name if name.startswith(PREFIX) else PREFIX + name: _to_save(tensor, dtype)
        for name, tensor in sorted(state.items())
    }
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    _remove_earlier(out)
    save_torch_state_dict(tensors, out, max_shard_size=_MAX_SHARD, metadata={"format": "pt"})
    for shard in out.glob("*.safetensors"):
        shard.chmod(0o644)
    tokenizer = processor.tokenizer
    GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id).save_pretrained(out)
    processor.save_pretrained(out)
    saved = copy.deepcopy(config)
    saved.architectures = ["Qwen2_5OmniModel"]
    saved.enable_audio_output = False
    for name in OF_THE_RUN:  # about the run that trained it, not about the model
        if hasattr(saved, name):
            delattr(saved, name)
    saved.dtype = saved.thinker_config.dtype = dtype
    saved.save_pretrained(out)
    return out


def own_dtype(config: Qwen2_5OmniConfig) -> torch.dtype:
    """What the weights of a full Omni config are kept in: the Thinker's, else the whole model's, else float32."""
    return config.thinker_config.dtype or config.dtype or torch.float32


def _remove_earlier(folder: Path) -> None:
    """Remove an earlier export; its config first, so that a half-removed one is not taken for complete."""
    (folder / "config.json").unlink(missing_ok=True)
    for weights in folder.glob("*.safetensors*"):
        weights.unlink()


def _to_save(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    tensor = tensor.detach().cpu()
    tensor = (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
    # A tensor gathered from several ranks may be the front of a longer, padded buffer, which the writer refuses.
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
