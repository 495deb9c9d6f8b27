"""Replies on disk, by everything that decides them, so that nothing is asked twice."""

from __future__ import annotations

import fcntl
import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from recipe.mer_r1.eval.judge.prompts import Messages, prompt_hash
from recipe.mer_r1.files.errors import InputError


@dataclass(frozen=True)
class Request:
    """A call; two that are equal get one reply."""

    endpoint: str
    model: str
    messages: Messages
    temperature: float = 0.0
    seed: int | None = None
    prompt: str = field(default_factory=prompt_hash)
    """Hash of the wording; default: the judge's."""

    def body(self) -> dict[str, Any]:
        """The call's arguments. Some endpoints refuse `seed`, so it is sent only where it was chosen."""
        seed = {} if self.seed is None else {"seed": self.seed}
        return {"model": self.model, "messages": self.messages, "temperature": self.temperature, **seed}

    @cached_property
    def key(self) -> str:
        """sha256, as hex, over all of it and the wording of the prompts; images enter by their own hash."""
        content = {**asdict(self), "messages": _hashed_images(self.messages)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _hashed_images(value: Any) -> Any:
    if isinstance(value, dict):
        if "url" in value:
            return {**value, "url": hashlib.sha256(value["url"].encode()).hexdigest()}
        return {key: _hashed_images(item) for key, item in value.items()}
    return [_hashed_images(item) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Reply:
    """What came back: the text, why it ended there, and the name by which the endpoint calls the model."""

    text: str
    finish: str | None
    served: str | None


class ReplyCache:
    """A line a reply, appended as they come; one process at a time. Holds no prompt and no key of an account.

    Raises:
        InputError: on entering, where another process has the file or a line is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._replies: dict[str, Reply] = {}

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise InputError(
                f"{self._path}: another process uses this file; wait for it, or choose another --out"
            ) from None
        self._load()
        return self

    def _load(self) -> None:
        self._file.seek(0)
        *lines, rest = self._file.read().split(b"\n")
        if rest:  # a kill cut the last line off
            self._file.truncate(sum(len(line) + 1 for line in lines))
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                key = entry.pop("key")
                self._replies[key] = Reply(**entry)
            except (ValueError, KeyError, TypeError, AttributeError):
                self._file.close()
                raise InputError(f"{self._path}, line {number}: not a reply; remove the line") from None

    def get(self, request: Request) -> Reply | None:
        """The reply, if there was one."""
        return self._replies.get(request.key)

    def put(self, request: Request, reply: Reply) -> None:
        """Keep a reply; it is in the file when this returns."""
        self._replies[request.key] = reply
        line = json.dumps({"key": request.key, **asdict(reply)})
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
