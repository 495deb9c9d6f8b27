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
from verl_ext.data.row_check import COLUMNS, PLACEHOLDERS, count_faults, differences, plain_types, row_faults
from verl_ext.data.shard_media import ShardError, is_silent, read_table

_SHOWN = 5  # faults in a message; the others are counted


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
        shard = datasets.Dataset(plain_types(read_table(path, media_root)))
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
    path: str | Path,
    media_root: str | Path | None = None,
    use_audio_in_video: bool = False,
    *,
    labelled: bool = True,
) -> datasets.Dataset:
    """A shard's rows as training and evaluation take them: loaded, with the sound where it is asked for, and checked.

    Args:
        path: the shard.
        media_root: as in `load_shard`.
        use_audio_in_video: take the sound from the videos.
        labelled: whether every row needs a label.

    Raises:
        ShardError: as `load_shard` and `check_rows`.
    """
    shard = load_shard(path, media_root=media_root)
    check_types(shard, path, labelled=labelled)
    if use_audio_in_video and is_silent(path):
        raise ShardError(
            f"{path} has rows that are without sound on purpose, but media.use_audio_in_video=true takes the sound "
            "from their videos. Set media.use_audio_in_video=false."
        )
    if use_audio_in_video:
        shard = sound_from_video(shard)
    check_rows(shard, path, use_audio_in_video)
    return shard


def load_all(
    paths: Sequence[str | Path], media_root: str | Path | None = None, use_audio_in_video: bool = False
) -> datasets.Dataset:
    """The rows of several shards, one after the other.

    Raises:
        ShardError: as `load_clips`, or the shards have different columns.
    """
    return join([load_clips(path, media_root, use_audio_in_video) for path in paths], paths)


def join(shards: Sequence[datasets.Dataset], paths: Sequence[str | Path]) -> datasets.Dataset:
    """Loaded shards as one.

    Raises:
        ShardError: their columns, or the fields of a column, differ; the message names shards and fields.
    """
    if not shards:
        raise ShardError("no shard is named; set data.train_files")
    tables = [shard.data.table for shard in shards]
    way_out = (
        "Make the shards with the same release of `python -m data_prep`, or add the missing fields to all rows (null "
        "where a row has no value)."
    )
    if found := differences([table.schema for table in tables], [str(path) for path in paths]):
        shown = "\n  ".join(found[:_SHOWN])
        raise ShardError(f"{len(found)} differences between the shards' columns:\n  {shown}\n{way_out}")
    try:
        shared = [name for name in tables[0].column_names if all(name in table.column_names for table in tables)]
        table = pa.concat_tables([table.select(shared) for table in tables], promote_options="permissive")
    except pa.ArrowException as error:
        names = ", ".join(map(str, paths))
        raise ShardError(f"{names} cannot be joined: {error}. {way_out}") from error
    return shards[0] if len(shards) == 1 else datasets.Dataset(table)


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


def check_types(shard: datasets.Dataset, path: str | Path, *, labelled: bool = True) -> None:
    """Check that every row has the types of docs/data.md, and texts without special tokens.

    Raises:
        ShardError: lists up to five faults and their number.
    """
    faults = (
        f"row {index}: {fault}"
        for index, row in enumerate(shard.select_columns(list(COLUMNS)))
        for fault in row_faults(row, labelled=labelled)
    )
    if problems := list(faults):
        _refuse(path, problems, len(shard), "Correct these rows, and write the shard again (docs/data.md).")


def _refuse(path: str | Path, problems: Sequence[str], rows: int, way_out: str) -> None:
    shown = "\n  ".join(problems[:_SHOWN])
    raise ShardError(f"{path}: {len(problems)} problems in {rows} rows:\n  {shown}\n{way_out}")


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
        problems += [f"row {index}: {fault}" for fault in count_faults(row)]
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
        way_out = "Correct the paths or drop the rows, and make the shard again (python -m data_prep)."
        _refuse(path, problems, len(shard), way_out)


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
        self.dataframe = load_all(self.data_files, self.config.get("media_root"), audio_in_video)
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
