"""Where a model comes from, as far as its run's folder tells: what is not found stays None and is said to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recipe.mer_r1.export.places import Checkpoint
from recipe.mer_r1.files.provenance import file_sha256, git_state, versions
from recipe.mer_r1.run import record, steps

_MODEL_KEYS = ("actor_rollout_ref.model.path", "model.path")
_SHARD_KEYS = ("data.train_files", "data.val_files")
_MANIFEST = "manifest.json"
_SCORES = ("train/loss", "val-core/", "val-aux/")


def gather(checkpoint: Checkpoint) -> dict[str, Any]:
    """Everything about the checkpoint's run and, where that started from another run's model, about those before.

    Returns:
        ``step``; ``stages``, the newest first, of :func:`_stage`; ``exported_with``, code and versions of now.
    """
    stages = [_stage(checkpoint.run_dir, checkpoint.step)]
    seen = {checkpoint.run_dir}
    while (earlier := _earlier_run(stages[-1]["started_from"])) and earlier not in seen:
        seen.add(earlier)
        stages.append(_stage(earlier, None))
    return {
        "step": checkpoint.step,
        "stages": stages,
        "exported_with": {"git": git_state(), "versions": versions("mer-r1", "transformers", "torch", "safetensors")},
    }


def _stage(run_dir: Path, step: int | None) -> dict[str, Any]:
    """One run: its starts, configuration, data and the last scores up to ``step``."""
    config = record.read_config(run_dir)
    return {
        "run": run_dir.name,
        "starts": record.read_starts(run_dir),
        "config": OmegaConf.to_container(config) if config is not None else None,
        "started_from": _first(config, _MODEL_KEYS),
        "data": [_shard(Path(path)) for path in _shards_of(config)],
        "scores": _scores(run_dir / "metrics.jsonl", step),
    }


def _first(config: DictConfig | None, keys: tuple[str, ...]) -> str | None:
    found = (OmegaConf.select(config, key) for key in keys) if config is not None else ()
    return next((value for value in found if value), None)


def _shards_of(config: DictConfig | None) -> list[str]:
    found = [OmegaConf.select(config, key) or [] for key in _SHARD_KEYS] if config is not None else []
    return list(dict.fromkeys(path for paths in found for path in paths))


def _earlier_run(model: str | None) -> Path | None:
    """The run whose ``model/`` this is."""
    folder = Path(model).resolve().parent if model and Path(model).is_dir() else None
    return folder if folder and record.read_config(folder) is not None else None


def _shard(path: Path) -> dict[str, Any]:
    """Hashes of a shard and of the manifest that ``data_prep`` wrote for it, as they are now."""
    manifest = next((place / _MANIFEST for place in (path.parent, path.parent.parent) if _is_manifest(place)), None)
    about = json.loads(manifest.read_text(encoding="utf-8")) if manifest else {}
    return {
        "shard": str(path),
        "sha256": file_sha256(path) if path.is_file() else None,
        "corpus": about.get("title") or about.get("corpus"),
        "manifest_sha256": file_sha256(manifest) if manifest else None,
    }


def _is_manifest(folder: Path) -> bool:
    return (folder / _MANIFEST).is_file()


def _scores(path: Path, step: int | None) -> dict[str, Any] | None:
    """The last line of ``metrics.jsonl`` up to ``step`` that has validation scores, or else a loss."""
    found = steps.read(path) if path.is_file() else {}
    for prefixes in (_SCORES[1:], _SCORES[:1]):
        for number in sorted(found, reverse=True):
            named = {name: value for name, value in found[number].items() if name.startswith(prefixes)}
            if named and (step is None or number <= step):
                return {"step": number, "values": named}
    return None
