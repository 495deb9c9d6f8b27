"""Merge the shards of verl's FSDP checkpoint into one model folder that transformers and vLLM load.

python -m verl_ext.models.export --checkpoint …/global_step_60/actor --out DIR
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoProcessor, Qwen2_5OmniConfig, Qwen2_5OmniProcessor

from verl_ext.models.adapters import has_adapters, merge_adapters, read_scale
from verl_ext.models.checkpoint import save_full_omni

_SHARD = re.compile(r"model_world_size_(\d+)_rank_(\d+)\.pt")


def merge_shards(folder: str | Path) -> dict[str, torch.Tensor]:
    """The full state dict of an FSDP2 checkpoint, read from the ranks' ``model_world_size_N_rank_R.pt``.

    With hybrid sharding (verl's ``fsdp_size``, a mesh of replicas × shards), the first replica's shards are read.

    Raises:
        FileNotFoundError: the folder holds no shards, or a rank's is missing.
        ValueError: it holds shards of runs with different numbers of ranks.
        NotImplementedError: tensors are sharded along several dimensions of the mesh, or are partial sums.
    """
    folder = Path(folder)
    found = [(match, path) for path in folder.glob("model_world_size_*.pt") if (match := _SHARD.match(path.name))]
    shards = {int(match[2]): path for match, path in found}
    if not shards:
        raise FileNotFoundError(
            f"no model_world_size_*_rank_*.pt in {folder}: is it the `actor` folder of a checkpoint?"
        )
    world_sizes = sorted({int(match[1]) for match, _ in found})
    if len(world_sizes) > 1:
        raise ValueError(
            f"{folder} holds shards of world sizes {', '.join(map(str, world_sizes))}: runs with different numbers of "
            "ranks wrote there. Delete the shards of the run that you do not need."
        )
    world_size = world_sizes[0]
    missing = sorted(set(range(world_size)) - set(shards))
    if missing:
        raise FileNotFoundError(
            f"{folder}: the shards of ranks {missing} of {world_size} are missing. A run on several nodes must write "
            "its checkpoints to one shared folder (trainer.default_local_dir)."
        )
    first = _load(shards[0])
    states = [first, *(_load(shards[rank]) for rank in _replica_of_rank_0(first, world_size)[1:])]
    return {name: _merge([state[name] for state in states]) for name in first}


def _load(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, map_location="cpu", weights_only=False)


def _replica_of_rank_0(state: dict[str, torch.Tensor], world_size: int) -> list[int]:
    """The ranks that hold the whole model together with rank 0, in the order of their shards."""
    from torch.distributed.tensor import DTensor

    for tensor in state.values():
        if isinstance(tensor, DTensor) and (sharded := _sharded_dim(tensor.placements)) is not None:
            ranks = tensor.device_mesh.mesh.movedim(sharded, 0)
            return ranks.reshape(len(ranks), -1)[:, 0].tolist()  # the others hold the same
    return list(range(world_size))


def _sharded_dim(placements: tuple[Any, ...]) -> int | None:
    """The dimension of the mesh along which a tensor is sharded; None: every rank holds all of it."""
    from torch.distributed.tensor import Replicate, Shard

    sharded = [dim for dim, placement in enumerate(placements) if not isinstance(placement, Replicate)]
    # By type: a subclass of Shard interleaves its parts.
    if len(sharded) > 1 or any(type(placements[dim]) is not Shard for dim in sharded):
        raise NotImplementedError(
            f"cannot merge tensors with placements {placements}: only shards along one dimension of the mesh can be"
        )
    return sharded[0] if sharded else None


def _merge(parts: list[torch.Tensor]) -> torch.Tensor:
    """One tensor of a replica's shards, given in their order."""
    from torch.distributed.tensor import DTensor

    first = parts[0]
    if not isinstance(first, DTensor):
        return first
    sharded = _sharded_dim(first.placements)
    if sharded is None:
        return first._local_tensor
    return torch.cat([part._local_tensor for part in parts], dim=first.placements[sharded].dim)


def read_checkpoint(checkpoint: str | Path) -> tuple[dict[str, torch.Tensor], Qwen2_5OmniConfig, Qwen2_5OmniProcessor]:
    """Merged weights (LoRA's adapters among them), full Omni config and processor of a checkpoint's folder of shards.

    Args:
        checkpoint: the ``actor`` folder of a ``global_step_N``, or that folder itself after SFT; its ``huggingface/``
            brings config and processor.

    Raises:
        FileNotFoundError: there is no ``huggingface/config.json``, or a rank's shard or LoRA's rank is missing.
        ValueError: the config is not a full Omni one, or the shards are of several runs.
    """
    source = Path(checkpoint) / "huggingface"
    if not (source / "config.json").is_file():
        raise FileNotFoundError(f"no {source / 'config.json'}: is {checkpoint} the `actor` folder of a checkpoint?")
    if not json.loads((source / "config.json").read_text(encoding="utf-8")).get("thinker_config"):
        raise ValueError(f"{source} is not a Qwen2.5-Omni checkpoint: its config has no thinker_config")
    state = merge_shards(checkpoint)
    if has_adapters(state):
        state = merge_adapters(state, read_scale(Path(checkpoint)))
    return state, AutoConfig.from_pretrained(source), AutoProcessor.from_pretrained(source)


def export(checkpoint: str | Path, out: str | Path, dtype: torch.dtype | None = None) -> Path:
    """Write the full-Omni folder of a checkpoint's folder of shards (see :func:`read_checkpoint`, also for errors).

    Args:
        checkpoint: the ``actor`` folder of a ``global_step_N``.
        out: folder; an earlier export in it is replaced.
        dtype: of the weights; None is what the checkpoint's config says. verl writes there what the actor was held
            in, which is fp32 unless ``model_dtype`` says otherwise.

    Returns:
        The folder ``out``.
    """
    return save_full_omni(out, *read_checkpoint(checkpoint), dtype)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="the `actor` folder of a global_step_N checkpoint")
    parser.add_argument("--out", required=True, help="folder for the merged model; an earlier export is replaced")
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16"],
        help="dtype of the weights; default: the dtype in the checkpoint's config",
    )
    arguments = parser.parse_args()
    dtype = getattr(torch, arguments.dtype) if arguments.dtype else None
    print(export(arguments.checkpoint, arguments.out, dtype))


if __name__ == "__main__":
    main()
