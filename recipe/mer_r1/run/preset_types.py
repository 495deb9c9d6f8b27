"""The types of a preset's keys (conf/preset/*.yaml): a wrong value is an error that names key, value and type.

A value comes from a YAML file or from a command line, where `007` and `yes` are text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

_MISSING = object()


@dataclass(frozen=True)
class Type:
    """What a value may be, in words and as a test."""

    meaning: str
    fits: Callable[[Any], bool]

    def or_null(self) -> Type:
        """The same type, or null."""
        return Type(f"{self.meaning}, or null", lambda value: value is None or self.fits(value))


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _one_of(*choices: str) -> Type:
    return Type(f"one of {', '.join(choices)}", lambda value: isinstance(value, str) and value in choices)


WHOLE = Type("a whole number", _whole)
COUNT = Type("a whole number from 1", lambda value: _whole(value) and value >= 1)
FROM_0 = Type("a whole number from 0", lambda value: _whole(value) and value >= 0)
COUNT_OR_ALL = Type("a whole number from 1, or -1 for all", lambda value: _whole(value) and (value >= 1 or value == -1))
NUMBER = Type("a number", _number)
FLAG = Type("true or false", lambda value: isinstance(value, bool))
TEXT = Type("text", lambda value: isinstance(value, str) and value != "")
PATH = Type("one path as text", lambda value: isinstance(value, str) and value != "")
WORDS = Type(
    "a list of words, e.g. [vision]",
    lambda value: isinstance(value, list) and all(isinstance(word, str) for word in value),
)

TYPES: dict[str, Type] = {
    "name": TEXT,
    "device": _one_of("cpu", "cuda"),
    "seed": WHOLE,
    "nnodes": COUNT,
    "ranks_per_node": COUNT,
    "model_path": PATH,
    "train_files": PATH,
    "val_files": PATH,
    "media_root": PATH.or_null(),
    "prompts_per_step": COUNT,
    "responses_per_prompt": COUNT,
    "steps": COUNT.or_null(),
    "epochs": COUNT,
    "lr": NUMBER,
    "kl_coef": NUMBER,
    "micro_batch_size": WHOLE,
    "micro_batch_tokens": WHOLE.or_null(),
    "kept_forwards": WHOLE,
    "gradient_checkpointing": FLAG,
    "attention": TEXT,
    "torch_compile": FLAG,
    "model_dtype": TEXT,
    "mixed_precision.param_dtype": TEXT,
    "mixed_precision.reduce_dtype": TEXT,
    "mixed_precision.buffer_dtype": TEXT,
    "fsdp_size": WHOLE,
    "offload.parameters": FLAG,
    "offload.optimizer": FLAG,
    "frozen_towers": WORDS,
    "lora.rank": WHOLE,
    "lora.alpha": NUMBER,
    "lora.targets": Type(
        "a regular expression as text, or a list of names",
        lambda value: TEXT.fits(value) or (WORDS.fits(value) and bool(value)),
    ),
    "validate_every": WHOLE,
    "save_every": WHOLE,
    "val_clips": WHOLE,
    "max_prompt_length": COUNT,
    "max_response_length": COUNT,
    "prompt_cache_size": WHOLE,
    "prompt_cache_gb": NUMBER.or_null(),
    "media.fps": NUMBER,
    "media.max_frames": COUNT,
    "media.min_pixels": WHOLE,
    "media.max_pixels": WHOLE,
    "media.sampling_rate": WHOLE,
    "media.max_seconds": NUMBER,
    "media.use_audio_in_video": FLAG,
    "media.cache_folder": PATH.or_null(),
    "media.cache_gb": NUMBER,
    "media.decode_seconds": NUMBER,
    "rollout.dtype": TEXT,
    "rollout.tensor_parallel": WHOLE,
    "rollout.memory_utilization": NUMBER,
    "rollout.chunked_prefill": FLAG,
    "rollout.eager": FLAG,
    "rollout.sleep": FLAG,
    "rollout.executor": TEXT,
    "rollout.max_sequences": WHOLE,
    "rollout.kv_blocks": WHOLE.or_null(),
    "rollout.max_batched_tokens": WHOLE,
    "rollout.weight_bucket_mb": WHOLE,
    "rollout.media_cache_gb": NUMBER,
    "agent_workers": WHOLE,
    "reward_workers": WHOLE,
    "poll_seconds": NUMBER,
    "storage_units": WHOLE,
    "ray.num_cpus": WHOLE.or_null(),
    "ray.num_gpus": NUMBER.or_null(),
    "ray.include_dashboard": FLAG,
    "sft.model_path": PATH,
    "sft.train_files": PATH,
    "sft.steps": WHOLE.or_null(),
    "sft.epochs": WHOLE.or_null(),
    "sft.batch_size": WHOLE,
    "sft.micro_batch_size": WHOLE,
    "sft.lr": NUMBER,
    "sft.warmup_steps": WHOLE,
    "sft.max_length": WHOLE,
    "sft.fast_fraction": NUMBER,
    "sft.workers": WHOLE,
    "sft.cache_clips": WHOLE,
    "sft.cache_gb": NUMBER.or_null(),
    "sft.save_every": WHOLE,
    "sft.score_every": FROM_0,
    "sft.score_clips": COUNT_OR_ALL,
}
"""Every key of a preset; a test compares this list with the files."""


def wrong_values(preset: Any) -> Iterator[str]:
    """A message for each key of a preset whose value has another type.

    Keys that are not there are passed over, and so are values that refer to other keys (`${…}`) and are not resolved.

    Args:
        preset: the `preset` node of a configuration, or a mapping.
    """
    values = OmegaConf.to_container(preset, resolve=False) if OmegaConf.is_config(preset) else preset
    nodes = {key.partition(".")[0]: key for key in TYPES if "." in key}
    for node, example in nodes.items():
        if node in values and not isinstance(values[node], Mapping):
            yield f"preset.{node}={values[node]!r}: expected keys below it, e.g. preset.{example}=…"
    for key, kind in TYPES.items():
        value = _at(values, key)
        if value is _MISSING or (isinstance(value, str) and "${" in value):
            continue
        if not kind.fits(value):
            found = value if _whole(value) and "whole number" in kind.meaning else _found(value)
            yield f"preset.{key}={value!r}: expected {kind.meaning}, but got {found}{_hint(key, value, kind)}"


def _at(values: Mapping[str, Any], key: str) -> Any:
    for part in key.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return _MISSING
        values = values[part]
    return values


def _found(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    kinds = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "a mapping"}
    return kinds.get(type(value), type(value).__name__)


def _hint(key: str, value: Any, kind: Type) -> str:
    """How to write what was probably meant."""
    candidates: list[Any] = []
    if isinstance(value, str):
        text = value.strip()
        candidates += [True] if text.lower() in ("yes", "on", "true") else []
        candidates += [False] if text.lower() in ("no", "off", "false") else []
        candidates += [None] if text.lower() in ("none", "null", "~") else []
        for read in (int, float):
            try:
                candidates.append(read(text))
            except ValueError:
                continue
        candidates.append([text])
    elif isinstance(value, float) and value.is_integer():
        candidates.append(int(value))
    elif _whole(value) and value in (0, 1):
        candidates.append(bool(value))
    elif isinstance(value, list) and kind is PATH:
        return f"; for several files, set data.{key.split('.')[-1]}=[A,B]"
    fitting = next((each for each in candidates if kind.fits(each)), _MISSING)
    return "" if fitting is _MISSING else f"; write {_written(fitting)}"


def _written(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(value)}]" if isinstance(value, list) else str(value)
