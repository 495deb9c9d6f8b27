"""Early checks of `preset.sft.score_every`: slow and fast scores of validation clips while SFT goes on."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from recipe.mer_r1.method.wheel import WheelError, load_wheels
from recipe.mer_r1.run.inputs import PreflightError

_OFF = "or set preset.sft.score_every=0 (no scores)"


def scored_files(config: DictConfig) -> list[str]:
    """The shards whose clips are scored: `data.val_files`, or else the preset's `val_files`."""
    files = config.data.val_files or [config.preset.val_files]
    return [files] if isinstance(files, str) else list(files)


def scores_clips_of_preset(config: DictConfig) -> bool:
    """Whether the run reads `preset.val_files`; otherwise they are of RL only."""
    return bool(config.preset.sft.score_every) and not config.data.val_files


def scores_at(every: int, step: int, total: int | None) -> bool:
    """Whether the clips are scored after a step; `every` is `preset.sft.score_every`."""
    return every > 0 and (step % every == 0 or step == total)


def check_scoring(config: DictConfig) -> None:
    """What needs no library: the shards and their labels, the wheels, settings that cannot answer.

    Raises:
        PreflightError: names the key, what is wrong and what to change.
    """
    if config.preset.sft.score_every == 0:
        return
    key = "data.val_files" if config.data.val_files else "preset.val_files"
    for file in scored_files(config):
        if not Path(file).is_file():
            raise PreflightError(
                f"preset.sft.score_every={config.preset.sft.score_every} scores the clips of {key}, but there is no "
                f"such shard: {file}. Make it with `python -m data_prep`, name another one "
                f"(data.val_files=[SHARD.parquet]), {_OFF}."
            )
        if file in config.data.train_files:
            raise PreflightError(
                f"preset.sft.score_every: {file} ({key}) is also in data.train_files. Name clips that SFT does not "
                f"train on (data.val_files=[SHARD.parquet]), {_OFF}."
            )
    if not any(map(_labelled, scored_files(config))):
        raise PreflightError(
            f"preset.sft.score_every: no row of {', '.join(scored_files(config))} ({key}) has a label, so there is "
            f"nothing to score. Name a shard with labels (data.val_files=[SHARD.parquet]), {_OFF}."
        )
    if config.engine.strategy != "fsdp2":
        raise PreflightError(
            f"preset.sft.score_every needs engine.strategy=fsdp2, not {config.engine.strategy}. Change it, {_OFF}."
        )
    try:
        load_wheels(config.mer_r1.wheels.folder)
    except WheelError as error:
        raise PreflightError(f"mer_r1.wheels.folder: {error}") from error


def _labelled(file: str) -> bool:
    """Whether any row has a label. A shard that cannot be read says so later, with its fault."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        column = parquet.read_table(file, columns=["reward_model"])["reward_model"].to_pylist()
    except (pa.ArrowException, OSError, KeyError):
        return True
    return any((row or {}).get("ground_truth") for row in column)
