"""Features of frozen encoders, kept from one forward to the next: a clip of a step is encoded once, not in each pass.

A *kept tower* is an encoder whose forward looks every clip up in a :class:`FeatureStore` and computes the missing ones.
A clip is found by its content and by the weights of the encoder, so another clip with the same name, or other weights,
are never mixed up. Needs torch alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_BLOCK = {"cpu": 2**16}
"""Elements that a fingerprint reads at a time, by the kind of device: what a CPU's cache holds; elsewhere 2^24."""


class FeatureStore:
    """Features by key, in memory up to a limit. What does not fit is not kept; nothing kept is dropped for it.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int = 0):
        self.limit, self.size = limit, 0
        """Bytes."""
        self.weights: set[Hashable] = set()
        """Keys of the frozen towers of the model that is trained; another model's features are kept if it has them."""
        self._kept: dict[Hashable, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> torch.Tensor | None:
        return self._kept.get(key)

    def put(self, key: Hashable, features: torch.Tensor) -> None:
        """Keep a copy, if it fits."""
        if self.size + features.nbytes <= self.limit and key not in self._kept:
            self._kept[key] = features.clone()
            self.size += features.nbytes

    def clear(self) -> None:
        """Forget all features."""
        self._kept.clear()
        self.size = 0


class KeptTower:
    """The forward of a frozen encoder, which runs on the clips that are not in a store.

    With several ranks all run the encoder if any rank must, because each forward gathers weights of all. A rank whose
    clips are all kept then runs the first one again.

    Args:
        tower: its ``forward`` is replaced by this object.
        store: where the features are kept.
    """

    name: str

    def __init__(self, tower: torch.nn.Module, store: FeatureStore):
        self.tower, self.store, self._forward = tower, store, tower.forward
        self.weights: Hashable = None
        """Says which weights the tower has."""
        self.active = False
        tower.forward = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._forward(*args, **kwargs)

    def _features(
        self, keys: Sequence[Hashable], run: Callable[[list[int]], Sequence[torch.Tensor]]
    ) -> list[torch.Tensor]:
        """One tensor a clip; ``run`` computes those of some clips."""
        keys = [(self.weights, key) for key in keys]
        found = {key: features for key in keys if (features := self.store.get(key)) is not None}
        missing = {key: place for place, key in enumerate(keys) if key not in found}
        if _on_any_rank(bool(missing), next(self.tower.parameters()).device):
            places = sorted(missing.values()) or [0]
            with torch.no_grad():
                computed = dict(zip((keys[place] for place in places), run(places), strict=True))
            for key in missing:
                found[key] = computed[key]
                self.store.put(key, computed[key])
        return [found[key] for key in keys]


class KeptVision(KeptTower):
    """Qwen2.5-Omni's vision encoder."""

    name = "vision"

    def __call__(self, hidden_states: torch.Tensor, grid_thw: torch.Tensor, **kwargs: Any) -> Any:
        """As the tower's: patches ``(N, values)`` of clips of the sizes ``(clips, 3)``."""
        if not self.active or _given(kwargs):
            return self._forward(hidden_states, grid_thw=grid_thw, **kwargs)
        sizes = grid_thw.tolist()
        clips = hidden_states.split([t * h * w for t, h, w in sizes])
        keys = [(*size, *key) for size, key in zip(sizes, fingerprints(clips), strict=True)]

        def run(places: list[int]) -> Sequence[torch.Tensor]:
            output = self._forward(torch.cat([clips[place] for place in places]), grid_thw=grid_thw[places])
            merged = self.tower.spatial_merge_unit
            return output.pooler_output.split([len(clips[place]) // merged for place in places])

        return BaseModelOutputWithPooling(pooler_output=torch.cat(self._features(keys, run)))


class KeptAudio(KeptTower):
    """Qwen2.5-Omni's audio encoder."""

    name = "audio"

    def __call__(
        self,
        input_features: torch.Tensor,
        feature_lens: torch.Tensor,
        aftercnn_lens: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """As the tower's: frames ``(mels, N)`` of sounds of the lengths ``(clips,)``."""
        if not self.active or _given(kwargs):
            return self._forward(input_features, feature_lens=feature_lens, aftercnn_lens=aftercnn_lens, **kwargs)
        sounds = input_features.T.split(feature_lens.tolist())
        keys = fingerprints(sounds)
        lengths = self.tower._get_feat_extract_output_lengths(feature_lens)

        def run(places: list[int]) -> Sequence[torch.Tensor]:
            output = self._forward(
                torch.cat([sounds[place] for place in places]).T,
                feature_lens=feature_lens[places],
                aftercnn_lens=lengths[0][places],
            )
            return output.last_hidden_state.split(lengths[1][places].tolist())

        return BaseModelOutputWithPooling(last_hidden_state=torch.cat(self._features(keys, run)))


def fingerprints(parts: Sequence[torch.Tensor]) -> list[tuple[Hashable, ...]]:
    """What tells tensors ``(n_i, m)`` of one dtype apart: shape, and 128 bits of their content.

    Two sums of all elements' bits, modulo 2^64, with random factors by column and by row. Made where the tensors are: a
    cryptographic hash would take their copy on the host and longer than an encoder on a GPU. Chance alone makes two
    clips equal in one of 2^60 cases. The numbers mean something within one process.
    """
    rows = torch.cat([part.detach() for part in parts]).contiguous()
    words = rows.view(_WORDS[rows.element_size()])
    columns, size = _factors(words.shape[1], 0).to(words.device), _BLOCK.get(words.device.type, 2**24)
    of_rows = torch.cat(
        [
            torch.stack([(block.long() * factor).sum(-1) for factor in columns])
            for block in words.split(max(1, size // words.shape[1]))
        ],
        dim=-1,
    )  # (2, Σ n_i)
    of_parts = of_rows.split([len(part) for part in parts], dim=-1)
    sums = torch.stack([(part * _factors(part.shape[1], 1).to(part.device)).sum(-1) for part in of_parts])
    shapes = [(str(part.dtype), *part.shape) for part in parts]
    return [(*shape, *found) for shape, found in zip(shapes, sums.tolist(), strict=True)]


def fingerprint_of_weights(module: torch.nn.Module, dtype: torch.dtype) -> tuple[Hashable, ...]:
    """What tells the weights of encoders apart, shards of this rank only where a parameter is sharded.

    Args:
        dtype: in which the forward computes; parameters count as they are then.
    """
    tensors = {name: values.detach().to(dtype) for name, values in module.named_parameters()} | dict(
        module.named_buffers()
    )
    found: list[Hashable] = []
    for name, values in tensors.items():
        values = values.to_local() if isinstance(values, DTensor) else values
        rows = values.reshape(-1, values.shape[-1]) if values.numel() and values.dim() else values.reshape(-1, 1)
        found.append((name, values.shape, *fingerprints([rows])[0]))
    return tuple(found)


@lru_cache(maxsize=64)
def _factors(number: int, seed: int) -> torch.Tensor:
    """``(2, number)`` random odd int64, other ones for another number."""
    generator = torch.Generator().manual_seed(seed)
    limits = torch.iinfo(torch.int64)
    return torch.randint(limits.min, limits.max, (2, number), generator=generator) | 1


def _given(kwargs: dict[str, Any]) -> bool:
    """Whether a forward is asked for more than features; LoRA's wrapper hands over settings that are None."""
    return any(value is not None for value in kwargs.values())


def _on_any_rank(found: bool, device: torch.device) -> bool:
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return found
    flag = torch.tensor(int(found), device=device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag.item())
