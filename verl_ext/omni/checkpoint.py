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
from transformers import GenerationConfig, Qwen2_5OmniConfig

PREFIX = "thinker."
_MAX_SHARD = "5GB"


def save_full_omni(
    out: str | Path,
    state: Mapping[str, torch.Tensor],
    config: Qwen2_5OmniConfig,
    processor,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write weights, generation config, processor, tokenizer and, last, the config to the folder `out`.

    A folder with `config.json` is therefore complete, also where a run was cut off.

    Args:
        out: folder, made if absent; files of the same names are replaced.
        state: the Thinker's tensors by name, with or without the prefix `thinker.`.
        config: the full Omni config; it is copied, not changed.
        processor: a Qwen2_5OmniProcessor with its tokenizer.
        dtype: of the saved floating-point tensors.

    Returns:
        The folder.

    Raises:
        ValueError: `state` is empty, or `config` is a Thinker's alone.
    """
    if not state:
        raise ValueError("no tensors to save")
    if not hasattr(config, "thinker_config"):
        raise ValueError(f"{type(config).__name__} is not a full Omni config: it has no thinker_config")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    tensors = {
        name if name.startswith(PREFIX) else PREFIX + name: _to_save(tensor, dtype)
        for name, tensor in sorted(state.items())
    }
    save_torch_state_dict(tensors, out, max_shard_size=_MAX_SHARD, metadata={"format": "pt"})
    for shard in out.glob("*.safetensors"):
        shard.chmod(0o644)
    tokenizer = processor.tokenizer
    GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id).save_pretrained(out)
    processor.save_pretrained(out)
    saved = copy.deepcopy(config)
    saved.architectures = ["Qwen2_5OmniModel"]
    saved.enable_audio_output = False
    saved.dtype = saved.thinker_config.dtype = dtype
    saved.save_pretrained(out)
    return out


def _to_save(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    tensor = tensor.detach().cpu()
    tensor = (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
    # A tensor gathered from several ranks may be the front of a longer, padded buffer, which the writer refuses.
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
