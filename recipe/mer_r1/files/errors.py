"""The one error that bad input raises; the command line turns it into a message and exit code 2."""

from __future__ import annotations

from pydantic import ValidationError

SEVERAL_ANSWERS = (
    "holds several answers per clip (`main_eval run --samples N`), but this command takes one; give a file with one "
    "answer per clip, such as slow.jsonl"
)
"""What is said of a file that a command cannot use."""


class InputError(ValueError):
    """A file or option that can't be used; the message names the file, the row or key, and the way out."""


def first_fault(error: ValidationError) -> str:
    """The first key at fault and what is wrong with it, as `key: message`; the message alone for the whole text."""
    fault = error.errors()[0]
    where = ".".join(map(str, fault["loc"]))
    return f"{where}: {fault['msg']}" if where else fault["msg"]
