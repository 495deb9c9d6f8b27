"""What each row of a shard must be (docs/data.md), and that several shards are of one kind. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from verl_ext.data.prompt_text import special_token

COLUMNS = ("data_source", "prompt", "videos", "audios", "reward_model", "extra_info")
"""Columns that a shard must have."""
PLACEHOLDERS = {"<video>": "videos", "<audio>": "audios"}
"""What stands for a clip in a prompt, and the column of the clips."""
_INFO = {
    "index": (int, "a whole number"),
    "split": (str, "text"),
    "subtitle": (str, "text"),
    "reason": (str, "text"),
    "value": (float, "a number"),
    "options": (list, "a list of words"),
    "group": (str, "text"),
}
"""Fields of `extra_info` that may be null or not there; else they have this type."""


def row_faults(row: Mapping[str, Any], *, labelled: bool = True) -> Iterator[str]:
    """What is wrong with the types and texts of a row, each with how to fix it; files are not looked at.

    Args:
        row: with `COLUMNS`, as Python values.
        labelled: whether a row needs a label.
    """
    if not isinstance(row["data_source"], str) or not row["data_source"]:
        yield f"`data_source` is {_shown(row['data_source'])}; write the name of the corpus"
    yield from asked_faults(row)
    yield from _label_faults(row["reward_model"], labelled)
    yield from _info_faults(row["extra_info"])


def asked_faults(row: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the part of a row that the model is asked by: `prompt`, `videos` and `audios`."""
    yield from _prompt_faults(row.get("prompt"))
    for column in ("videos", "audios"):
        value = row.get(column)
        if value is not None and not _is_list(value, str):
            yield f"`{column}` is {_shown(value)}; write a list of paths, e.g. ['clip.mp4']"


def count_faults(row: Mapping[str, Any]) -> Iterator[str]:
    """Where the placeholders of a prompt and the lists of clips do not match."""
    text = "".join(message["content"] for message in row["prompt"])
    for placeholder, column in PLACEHOLDERS.items():
        expected, found = text.count(placeholder), len(row.get(column) or [])
        if expected != found:
            yield f"{expected} {placeholder} in the prompt, but {found} paths in `{column}`"


def _prompt_faults(prompt: Any) -> Iterator[str]:
    if not _is_list(prompt, Mapping) or not prompt:
        hint = "write [{'role': 'user', 'content': '<video><audio>…'}]"
        yield f"`prompt` is not a list of messages with role and content, but {_shown(prompt)}; {hint}"
        return
    for message in prompt:
        content = message.get("content")
        if not isinstance(message.get("role"), str) or not isinstance(content, str):
            yield (
                f"`prompt` is not a list of messages with role and content: {_shown(dict(message))}; both must be text"
            )
        elif token := special_token(content.replace("<video>", "").replace("<audio>", "")):
            yield f"`prompt` contains {token!r}, which the model would read as a command; remove it"


def _label_faults(reward_model: Any, labelled: bool) -> Iterator[str]:
    if not isinstance(reward_model, Mapping):
        yield f"`reward_model` is {_shown(reward_model)}; write {{'style': 'rule', 'ground_truth': ['happy']}}"
        return
    labels = reward_model.get("ground_truth")
    fine = _is_list(labels, str) and all(label.strip() for label in labels)
    if not fine or (labelled and not labels):
        example = f"e.g. [{labels!r}]" if isinstance(labels, str) and labels.strip() else "e.g. ['happy', 'excited']"
        yield (
            f"reward_model.ground_truth is {_shown(labels)}, but it must be a non-empty list of words; write a list, "
            f"{example}"
        )
        return
    for label in labels:
        if token := special_token(label):
            yield f"reward_model.ground_truth: the label {label!r} contains {token!r}; remove it"


def _info_faults(info: Any) -> Iterator[str]:
    if not isinstance(info, Mapping):
        yield f"`extra_info` is {_shown(info)}; write {{'name': 'clip_1', …}} (docs/data.md)"
        return
    name = info.get("name")
    if not isinstance(name, str) or not name:
        problem = f"is {_shown(name)}" if "name" in info else "is missing"
        yield f"extra_info.name {problem}; write the clip's name, which results are listed by"
    for key, (kind, meaning) in _INFO.items():
        value = info.get(key)
        if value is not None and not (_is_list(value, str) if kind is list else _is(value, kind)):
            yield f"extra_info.{key} is {_shown(value)}; write {meaning}, or null"
            continue
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and key in ("subtitle", "reason", "options") and (token := special_token(text)):
                yield f"extra_info.{key} contains {token!r}, which the model would read as a command; remove it"


def _is(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _shown(value: Any) -> str:
    """A value, shortened, with its type where the value alone does not show it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def plain_types(table: pa.Table) -> pa.Table:
    """The table with the types that data_prep writes: other libraries write large_string, large_list and categories."""
    fields = [field.with_type(_plain(field.type)) for field in table.schema]
    schema = pa.schema(fields, table.schema.metadata)
    return table if schema.equals(table.schema) else table.cast(schema)


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    return kind


def differences(schemas: Sequence[pa.Schema], names: Sequence[str]) -> list[str]:
    """How the columns of the shards differ from those of the first shard; [] where they can be joined.

    Columns beside `COLUMNS` do not count, nor types of lists that are all empty.
    """
    first, *others = (dict(_leaves(schema)) for schema in schemas)
    found = []
    for name, other in zip(names[1:], others, strict=True):
        found += [f"{name} has no {leaf}, but {names[0]} has" for leaf in first if leaf not in other]
        found += [f"{names[0]} has no {leaf}, but {name} has" for leaf in other if leaf not in first]
        found += [
            f"{leaf} is {first[leaf]} in {names[0]}, but {other[leaf]} in {name}"
            for leaf in first
            if leaf in other and first[leaf] != other[leaf] and not _empty(first[leaf], other[leaf])
        ]
    return found


def _empty(*kinds: pa.DataType) -> bool:
    return any("null" in str(kind) for kind in kinds)


def _leaves(schema: pa.Schema) -> Iterator[tuple[str, pa.DataType]]:
    """Columns, the fields of structs as COLUMN.FIELD."""
    for name in COLUMNS:
        kind = schema.field(name).type
        if pa.types.is_struct(kind):
            yield from ((f"{name}.{field.name}", field.type) for field in kind)
        else:
            yield name, kind
