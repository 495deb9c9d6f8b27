"""Put a Thinker back into a complete Qwen2.5-Omni folder, whose talker and token2wav stay as they are.

The folder is walked weight file by weight file, so that no more than one of its files is in memory beside the Thinker.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase, Qwen2_5OmniConfig

from verl_ext.models.checkpoint import PREFIX

SPEAKERS = "spk_dict.pt"
_PARTS = (PREFIX, "talker.", "token2wav.")
_INDEX = "model.safetensors.index.json"
# Of a config: what says how a model is held, initialised or ended, but changes no shape and no number of a forward.
_FREE = {
    "architectures",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "initializer_range",
    "pad_token_id",
    "tie_word_embeddings",
    "transformers_version",
    "use_cache",
}


class FullOmniError(ValueError):
    """The folder is no complete Qwen2.5-Omni, or its Thinker is another one than ours."""


def check(
    omni: str | Path,
    state: Mapping[str, torch.Tensor],
    config: Qwen2_5OmniConfig,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Refuse a folder that this Thinker cannot be put into; only headers of the weights are read.

    Args:
        omni: a complete Qwen2.5-Omni folder: ``thinker.*``, ``talker.*``, ``token2wav.*`` and ``spk_dict.pt``.
        state: the Thinker's tensors, named with the prefix ``thinker.``.
        config: the full Omni config that the Thinker was trained with.
        tokenizer: as it was trained.

    Raises:
        FullOmniError: names the first things that are absent or differ.
    """
    omni = Path(omni)
    for name in ("config.json", SPEAKERS):
        if not (omni / name).is_file():
            raise FullOmniError(f"{omni} is not a complete Qwen2.5-Omni folder: {name} is missing")
    shapes = _shapes(omni)
    absent = [part for part in _PARTS if not any(name.startswith(part) for name in shapes)]
    if absent:
        raise FullOmniError(f"{omni} is not a complete Qwen2.5-Omni folder: tensors {', '.join(absent)}* are missing")
    theirs = {name: shape for name, shape in shapes.items() if name.startswith(PREFIX)}
    ours = {name: list(tensor.shape) for name, tensor in state.items()}
    if theirs.keys() != ours.keys():
        raise FullOmniError(
            f"{omni} has a different Thinker: tensors only there: {_some(theirs.keys() - ours.keys())}; only in the "
            f"checkpoint: {_some(ours.keys() - theirs.keys())}"
        )
    other = [f"{name} {theirs[name]}, ours {ours[name]}" for name in sorted(ours) if theirs[name] != ours[name]]
    if other:
        raise FullOmniError(f"{omni} has a Thinker of a different size: {_some(other)}")
    settings = _settings(AutoConfig.from_pretrained(omni).thinker_config.to_dict())
    mine = _settings(config.thinker_config.to_dict())
    other = [
        f"{key} {settings.get(key)}, ours {mine.get(key)}"
        for key in sorted(settings.keys() | mine.keys())
        if settings.get(key) != mine.get(key)
    ]
    if other:
        raise FullOmniError(f"{omni}/config.json describes a different Thinker: {_some(other)}")
    vocabulary, mine = AutoTokenizer.from_pretrained(omni).get_vocab(), tokenizer.get_vocab()
    other = [token for token in vocabulary.keys() | mine.keys() if vocabulary.get(token) != mine.get(token)]
    if other:
        raise FullOmniError(f"{omni} has a different tokenizer: tokens with different ids: {_some(other)}")


def put_back(
    out: str | Path, omni: str | Path, state: Mapping[str, torch.Tensor], renamed: Mapping[str, str] | None = None
) -> Path:
    """Write the complete folder: the Thinker's tensors ours, all else copied; to be called after :func:`check`.

    Each of our tensors takes the dtype of the one in its place, so that config and index stay true. Hidden
    files are left out.

    Args:
        out: folder, made if absent.
        omni: the complete folder.
        state: the Thinker's tensors, named with the prefix ``thinker.``.
        renamed: files that get another name in `out`, such as a model card that makes room for another.
    """
    out, omni = Path(out), Path(omni)
    out.mkdir(parents=True, exist_ok=True)
    weights = set(_weight_files(omni))
    for source in sorted(path for path in omni.rglob("*") if path.is_file() and path not in weights):
        relative = source.relative_to(omni)
        if not any(part.startswith(".") for part in relative.parts):
            target = out / (renamed or {}).get(str(relative), relative)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    for source in sorted(weights):
        with safe_open(source, "pt") as tensors:
            metadata = tensors.metadata()
            merged = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118  no mapping
        for name in merged.keys() & state.keys():
            merged[name] = state[name].detach().to(merged[name].dtype).contiguous().clone()
        save_file(merged, out / source.name, metadata=metadata)
    return out


def _weight_files(omni: Path) -> list[Path]:
    """The files of the index, or the only one."""
    index = omni / _INDEX
    if index.is_file():
        named = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        named = ["model.safetensors"]
    absent = [name for name in named if not (omni / name).is_file()]
    if absent:
        raise FullOmniError(f"{omni} is not a complete Qwen2.5-Omni folder: {', '.join(absent)} is missing")
    return [omni / name for name in named]


def _shapes(omni: Path) -> dict[str, list[int]]:
    found = {}
    for path in _weight_files(omni):
        try:
            with safe_open(path, "pt") as tensors:
                found |= {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise FullOmniError(f"{path} cannot be read ({error}); it may be incomplete, copy it again") from error
    return found


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in _flat(config, "") if key.rpartition(".")[2] not in _FREE and value is not None}


def _flat(config: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        key = str(key)  # numbers of labels are ints where a config was loaded
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif not key.startswith("_"):
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value


def _some(names: Any, most: int = 3) -> str:
    names = sorted(names)
    return (", ".join(names[:most]) or "none") + (f" and {len(names) - most} more" if len(names) > most else "")
