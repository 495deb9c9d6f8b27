"""The files and folders that a run starts from, looked at before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_FILES = {
    "config.json": ["config.json"],
    "weights": ["*.safetensors"],
    "tokenizer": ["tokenizer.json", "tokenizer_config.json"],
    "processor": ["processor_config.json", "preprocessor_config.json"],
}
"""What a model folder needs: by its name in messages, the patterns of which one must be there."""


class PreflightError(SystemExit):
    """Ends an entry point with the message on stderr, without a traceback, and with exit code 2 (`files.exits`)."""


def check_model_folder(path: str, key: str, way_out: str = "Train one with main_sft") -> None:
    """A model folder needs a config, weights, a tokenizer and a processor."""
    folder = Path(path)
    if not folder.is_dir():
        raise PreflightError(f"{key}={path}: no such folder. {way_out}, or set the key to the folder of another model.")
    if missing := lacking(folder):
        raise PreflightError(
            f"{key}={path}: the folder has no {', '.join(missing)}. Copy the files of the original model there, "
            "or make a folder with `python -m verl_ext.models.export`."
        )


def lacking(folder: Path) -> list[str]:
    """What a folder lacks to be that of a model."""
    return [name for name, patterns in _FILES.items() if not any(any(folder.glob(pattern)) for pattern in patterns)]


def check_shards_exist(files: Iterable[str], key: str) -> None:
    """The shards are files."""
    for file in files:
        if not Path(file).is_file():
            raise PreflightError(
                f"{key}: no such shard: {file}. Make it with `python -m data_prep`, or correct the key."
            )
