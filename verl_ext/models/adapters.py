"""LoRA's adapters merged into the weights that they adapt, so that an exported model needs no peft."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

_PREFIX = "base_model.model."
_BASE, _DOWN, _UP = ".base_layer.", ".lora_A.default.weight", ".lora_B.default.weight"
META_FILE = "lora_train_meta.json"
"""verl writes it beside the shards of a model with adapters."""


def has_adapters(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are the tensors of a model that peft has wrapped."""
    return any(name.startswith(_PREFIX) for name in state)


def read_scale(folder: Path) -> float:
    """LoRA's factor α / r of a checkpoint's ``actor`` folder.

    Raises:
        FileNotFoundError: verl has written none there.
    """
    file = folder / META_FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder} has LoRA adapters, but {META_FILE} with their rank and alpha is missing; copy it there"
        )
    meta = json.loads(file.read_text(encoding="utf-8"))
    return meta["lora_alpha"] / meta["r"]


def merge_adapters(state: Mapping[str, torch.Tensor], scale: float) -> dict[str, torch.Tensor]:
    """W + scale · B A for every adapted matrix, under the names that the model has without LoRA.

    Args:
        state: full tensors of a model that peft has wrapped with the adapter ``default``.
        scale: α / r.

    Raises:
        ValueError: an adapter's matrix lacks its other half or the weight that it adapts.
    """
    named = {name.removeprefix(_PREFIX): tensor for name, tensor in state.items()}
    merged = {name.replace(_BASE, "."): tensor for name, tensor in named.items() if not name.endswith((_DOWN, _UP))}
    for name in named:
        if name.endswith((_DOWN, _UP)):
            layer = name.removesuffix(_DOWN).removesuffix(_UP)
            if not {layer + _DOWN, layer + _UP, layer + _BASE + "weight"} <= set(named):
                raise ValueError(f"{name}: the adapter is not complete, or the weight that it adapts is missing")
            if name.endswith(_UP):
                weight = merged[f"{layer}.weight"]
                delta = named[layer + _UP].double() @ named[layer + _DOWN].double()
                merged[f"{layer}.weight"] = (weight.double() + scale * delta).to(weight.dtype)
    return merged
