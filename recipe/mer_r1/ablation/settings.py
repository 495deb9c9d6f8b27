"""What of the configuration decides a record's numbers, and a fingerprint of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from recipe.mer_r1.method.experiments import load_experiment
from recipe.mer_r1.run.launch import CONF

_PLACES = ("model_path", "train_files", "val_files", "media_root")
"""Keys of a preset that say where things are."""
_MACHINE = ("prompt_cache_size", "prompt_cache_gb", "poll_seconds", "storage_units", "ray", "save_every")
_MACHINE += ("kept_forwards", "media.cache_folder", "media.cache_gb", "media.decode_seconds")
_MACHINE += ("sft.workers", "sft.cache_clips", "sft.cache_gb", "sft.save_every", "sft.score_every", "sft.score_clips")
"""Keys of a preset that change no number of a record: caches, time limits, processes, checkpoints, passes, scores."""
_SFT = ("sft",)
_RL = ("prompts_per_step", "responses_per_prompt", "steps", "epochs", "lr", "kl_coef", "micro_batch_tokens")
_RL += ("validate_every", "val_clips", "agent_workers", "reward_workers", "rollout")


def fingerprint(settings: Any) -> str:
    """Of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def of_sft(preset: str) -> dict[str, Any]:
    """The keys of conf/preset/PRESET.yaml that decide the results of SFT."""
    return _without(_read(CONF / "preset" / f"{preset}.yaml"), (*_MACHINE, *_RL))


def of_rl(preset: str) -> dict[str, Any]:
    """The keys of conf/preset/PRESET.yaml that decide the results of RL and of an evaluation."""
    return _without(_read(CONF / "preset" / f"{preset}.yaml"), (*_MACHINE, *_SFT))


def of_stage(name: str | None) -> dict[str, Any] | None:
    """What conf/stage/NAME.yaml changes of the preset; None without a stage."""
    return None if name is None else _without(_read(CONF / "stage" / f"{name}.yaml"), ("run_dir",))


def of_experiment(name: str) -> dict[str, Any]:
    """conf/experiment/NAME.yaml with what it builds on; without the paper's numbers."""
    return _without(OmegaConf.to_container(load_experiment(name), resolve=False), ("paper",))


def _read(path: Path) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(path), resolve=False)


def _without(values: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Without places, at every level, and without the keys: NAME, or NODE.NAME one level below."""
    left_out = {*_PLACES, *keys}
    kept = {key: value for key, value in values.items() if key not in left_out}
    below = {node: tuple(key.removeprefix(f"{node}.") for key in keys if key.startswith(f"{node}.")) for node in kept}
    return {key: _without(value, below[key]) if isinstance(value, dict) else value for key, value in kept.items()}
