"""A stage: one command that a user may type, with what it reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recipe.mer_r1.pipeline import progress


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        name: of its stamp and log.
        title: on the screen.
        command: what follows `python`.
        folder: everything it writes (a folder, or one file); removed when it starts anew.
        result: exists once it has ended well.
        after: names of the stages whose results it reads.
        conf: configuration files that it reads.
        settings: fingerprint of settings that decide the result beside the command; for callers that give no `conf`.
        watch: tells how far it is.
        light: needs little memory, so that it may run beside another stage. It leaves the processor to that one.
    """

    name: str
    title: str
    command: tuple[str, ...]
    folder: Path
    result: Path
    after: tuple[str, ...] = ()
    conf: tuple[Path, ...] = ()
    settings: str = ""
    watch: progress.Watch = progress.nothing
    light: bool = False
