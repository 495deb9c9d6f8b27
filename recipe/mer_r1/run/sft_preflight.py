"""Checks of an SFT run: batch sizes and the model folder before anything heavy, rows and lengths before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recipe.mer_r1.run import state
from recipe.mer_r1.run.inputs import PreflightError, check_model_folder, check_shards_exist
from recipe.mer_r1.run.preflight import (
    ENCODED_ROWS,
    check_form,
    check_loggers,
    check_towers,
    check_visible_devices,
)
from recipe.mer_r1.run.sft_scoring import check_scoring
from recipe.mer_r1.run.unsupported import UnsupportedError, check_unsupported


def check_cheap(config: DictConfig) -> None:
    """What needs no library: the model folder, the shards' names, sizes that must divide each other."""
    check_visible_devices()
    check_model_folder(config.model.path, "preset.sft.model_path", "Make a model with `python -m verl_ext.models.tiny`")
    check_shards_exist(config.data.train_files, "preset.sft.train_files")
    check_validation(config)
    ranks = config.trainer.nnodes * config.trainer.n_gpus_per_node
    batch, micro = config.data.train_batch_size, config.data.micro_batch_size_per_gpu
    if batch % (ranks * micro):
        raise PreflightError(
            f"preset.sft.batch_size={batch} is not a multiple of {ranks} ranks × preset.sft.micro_batch_size={micro}."
        )
    check_length(config.preset.sft)
    if not 0 <= config.data.fast_fraction <= 1:
        raise PreflightError(f"data.fast_fraction={config.data.fast_fraction} must be between 0 and 1.")
    check_form(config.data.form, "data.form")
    check_towers(config.preset.frozen_towers)
    check_loggers(config)
    try:
        check_unsupported(config)
    except UnsupportedError as error:
        raise PreflightError(str(error)) from error
    check_scoring(config)


def check_validation(config: DictConfig) -> None:
    """The shards of `data.val_files` are there, are not those of the training, and make one batch at least."""
    files, data = config.data.val_files or [], config.data
    files = [files] if isinstance(files, str) else list(files)
    if config.trainer.test_freq > 0 and not files:
        raise PreflightError(
            f"trainer.test_freq={config.trainer.test_freq} needs data.val_files=[SHARD.parquet], clips that SFT does "
            "not train on, such as those of RL's shard. Without a validation loss, remove trainer.test_freq."
        )
    for file in files:
        if not Path(file).is_file():
            raise PreflightError(f"data.val_files: no such shard: {file}. Make it with `python -m data_prep`.")
        if file in data.train_files:
            raise PreflightError(f"data.val_files: {file} is also in data.train_files. Choose clips of another shard.")
    if files:
        rows = state.shard_rows(files)
        rows = min(rows, data.val_max_samples) if data.val_max_samples > 0 else rows
        if rows < data.train_batch_size:
            raise PreflightError(
                f"data.val_files: {rows} rows are fewer than a batch (preset.sft.batch_size={data.train_batch_size}), "
                "and only whole batches count. Give more clips, or raise data.val_max_samples."
            )


def check_length(sft: DictConfig) -> None:
    """A run has its length in steps or in epochs."""
    if (sft.steps is None) == (sft.epochs is None):
        raise PreflightError(
            f"preset.sft.steps={sft.steps}, preset.sft.epochs={sft.epochs}: set one of them and make the other null."
        )
    for key in ("steps", "epochs"):
        value = sft[key]
        if value is not None and (not isinstance(value, int) or value < 1):
            raise PreflightError(f"preset.sft.{key}={value}: it must be an integer of at least 1.")


def check_shards(config: DictConfig) -> None:
    """Every row's columns, types and files, before ranks start that would each say the same."""
    from verl_ext.data.dataset import ShardError
    from verl_ext.data.sft_dataset import load_rows

    try:
        audio_in_video = bool(config.data.media.use_audio_in_video)
        load_rows(config.data.train_files, audio_in_video, media_root=config.data.get("media_root"))
    except ShardError as error:
        raise PreflightError(f"data.train_files: {error}") from error


def check_rows(config: DictConfig) -> None:
    """Every row's columns and files, by the dataset class that the configuration names.

    A few rows are encoded whole, so that a wrong length limit shows in seconds.
    """
    from verl.utils import hf_processor
    from verl.utils.import_utils import load_extern_object

    dataset_class = load_extern_object(config.data.custom_cls.path, config.data.custom_cls.name)
    processor = hf_processor(config.model.path)
    _check_dataset(dataset_class, processor, config, "data.train_files")
    if config.data.val_files:
        _check_dataset(dataset_class, processor, config, "data.val_files")


def _check_dataset(dataset_class: Any, processor: Any, config: DictConfig, key: str) -> None:
    from verl_ext.data.dataset import ShardError
    from verl_ext.data.media import MediaError

    files = OmegaConf.select(config, key)
    try:
        dataset = dataset_class(files, getattr(processor, "tokenizer", None), config.data, processor)
        if hasattr(dataset, "check_replies"):
            dataset.check_replies()
        if note := getattr(dataset, "note", lambda: "")():
            print(f"note: {note}")
        for item in range(0, len(dataset.rows), max(1, len(dataset.rows) // ENCODED_ROWS)):
            dataset[item]
    except (ShardError, MediaError) as error:
        raise PreflightError(f"{key}: {error}") from error
