"""verl's RL dataset for clips: rows say where they are, the agent loop decodes; bad rows are named before workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from omegaconf import ListConfig
from verl.utils.dataset.rl_dataset import RLHFDataset

from verl_ext.data.embedded import EmbeddedClip
from verl_ext.data.shard_media import ShardError, read_table

COLUMNS = ("data_source", "prompt", "videos", "audios", "reward_model", "extra_info")
PLACEHOLDERS = {"<video>": "videos", "<audio>": "audios"}


def load_shard(
    path: str | Path, columns: Sequence[str] = COLUMNS, media_root: str | Path | None = None
) -> datasets.Dataset:
    """Read a parquet shard, check its columns, and make its clips findable from any process.

    Args:
        path: the shard.
        columns: that it must have.
        media_root: the folder that relative paths start from; None: the one that the shard names.

    Returns:
        Rows whose `videos` and `audios` hold absolute paths or references to embedded clips
        (:mod:`verl_ext.data.embedded`), whose bytes are not read here.

    Raises:
        ShardError: the file is missing, is not parquet, is empty, lacks a column, or its clips cannot be resolved.
    """
    if not Path(path).is_file():
        raise ShardError(f"shard not found: {path}. Make it with `python -m data_prep`, or correct data.train_files.")
    try:
        shard = datasets.Dataset(read_table(path, media_root))
    except (pa.ArrowException, OSError) as error:
        raise ShardError(
            f"cannot read {path} as parquet: {error}. Make the shard again with `python -m data_prep`."
        ) from error
    missing = [column for column in columns if column not in shard.column_names]
    if missing:
        raise ShardError(
            f"{path} has no column {missing}; it has {shard.column_names}. See docs/data.md for the schema."
        )
    if not len(shard):
        raise ShardError(f"{path} has no rows. Make the shard again with `python -m data_prep`.")
    return shard


def load_clips(
    path: str | Path, media_root: str | Path | None = None, use_audio_in_video: bool = False
) -> datasets.Dataset:
    """A shard's rows as training and evaluation take them: loaded, with the sound where it is asked for, and checked.

    Raises:
        ShardError: as `load_shard` and `check_rows`.
    """
    shard = load_shard(path, media_root=media_root)
    if use_audio_in_video:
        shard = sound_from_video(shard)
    check_rows(shard, path, use_audio_in_video)
    return shard


def sound_from_video(shard: datasets.Dataset) -> datasets.Dataset:
    """Prompts without `<audio>` where each video had one: the video's own track is taken instead of the sound file."""
    prompts, audios = shard["prompt"][:], shard["audios"][:]
    for index, prompt in enumerate(prompts):
        text = _text(prompt) or ""
        if 0 < text.count("<audio>") == text.count("<video>"):
            for message in prompt:
                message["content"] = message["content"].replace("<audio>", "")
            audios[index] = []
    table = shard.data.table
    for name, values in (("prompt", prompts), ("audios", audios)):
        column = pa.array(values, table.schema.field(name).type)
        table = table.set_column(table.column_names.index(name), table.schema.field(name), column)
    return datasets.Dataset(table)


def check_rows(shard: datasets.Dataset, path: str | Path, use_audio_in_video: bool = False) -> None:
    """Check that every row's prompt is a chat whose placeholders match its media lists, and that the files exist.

    Raises:
        ShardError: lists up to five bad rows and their number.
    """
    problems = []
    for index, row in enumerate(shard.select_columns(["prompt", "videos", "audios"])):
        text = _text(row["prompt"])
        if text is None:
            problems.append(f"row {index}: `prompt` is not a list of messages with role and content")
            continue
        for placeholder, column in PLACEHOLDERS.items():
            expected, found = text.count(placeholder), len(row[column] or [])
            if expected != found:
                problems.append(f"row {index}: {expected} {placeholder} in the prompt, but {found} paths in `{column}`")
        if use_audio_in_video and "<audio>" in text:
            problems.append(
                f"row {index}: data.media.use_audio_in_video takes the sound from the video, but the prompt has "
                f"{text.count('<audio>')} <audio> and {text.count('<video>')} <video>"
            )
        for column in PLACEHOLDERS.values():
            problems += [
                f"row {index}: `{column}` file not found: {file}"
                for file in row[column] or []
                if not EmbeddedClip.parse(file) and not Path(file).is_file()
            ]
    if problems:
        shown = "\n  ".join(problems[:5])
        raise ShardError(
            f"{path}: {len(problems)} problems in {len(shard)} rows:\n  {shown}\n"
            "Correct the paths or drop the rows, and make the shard again (python -m data_prep)."
        )


def _text(prompt: Any) -> str | None:
    """All text of a chat; None if `prompt` is no chat."""
    try:
        return "".join(message["content"] for message in prompt)
    except (TypeError, KeyError):
        return None


class OmniDataset(RLHFDataset):
    """Rows of clips for RL (``data.custom_cls``).

    A row may be asked for in several forms: ``data.response_prefixes.{train,val}`` maps a form's name to the text that
    the reply is made to begin with. The form's name is appended to ``data_source``, so that verl reports each form on
    its own; with a single form nothing is appended. Nothing is filtered: a prompt that is too long is an error.
    """

    def _read_files_and_tokenize(self) -> None:
        audio_in_video = bool(self.config.media.use_audio_in_video)
        shards = []
        for path in self.data_files:
            shards.append(load_clips(path, self.config.get("media_root"), audio_in_video))
        self.dataframe = datasets.concatenate_datasets(shards)
        if 0 < self.max_samples < len(self.dataframe):
            self.dataframe = self.dataframe.select(range(self.max_samples))
        split = "val" if _same_files(self.original_data_files, self.config.val_files) else "train"
        self.forms = list(self.config.response_prefixes[split].items())
        if not self.forms:
            raise ShardError(f"data.response_prefixes.{split} is empty: name at least one form, e.g. {{slow: ''}}.")

    def __len__(self) -> int:
        return len(self.dataframe) * len(self.forms)

    def __getitem__(self, item: int) -> dict[str, Any]:
        # Forms change slowest: the first len(dataframe) items are the first form.
        form, prefix = self.forms[item // len(self.dataframe)]
        row = super().__getitem__(item % len(self.dataframe))
        row["response_prefix"] = prefix
        if len(self.forms) > 1:
            row["data_source"] = f"{row['data_source']}/{form}"
        return row


def _same_files(left: str | Sequence[str], right: str | Sequence[str]) -> bool:
    def as_list(files: str | Sequence[str]) -> list[str]:
        return [str(file) for file in files] if isinstance(files, list | ListConfig) else [str(files)]

    return as_list(left) == as_list(right)


def build_messages(row: Mapping[str, Any], prompt_key: str = "prompt") -> list[dict[str, Any]]:
    """Replace ``<video>`` and ``<audio>`` in a row's prompt by content items, as verl's RL dataset does."""
    builder = RLHFDataset.__new__(RLHFDataset)
    builder.image_key, builder.video_key, builder.audio_key = "images", "videos", "audios"
    builder.processor = True  # only asked whether there is one
    return builder._build_messages({**row, prompt_key: [dict(message) for message in row[prompt_key]]}, key=prompt_key)
