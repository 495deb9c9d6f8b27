"""What has been done: one small file a stage. A finished stage whose command and inputs are unchanged is skipped."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class Stamp:
    """A stage, as it was last run.

    Attributes:
        key: hash of the command and all that goes into it (:func:`key_of`).
        command: for the reader.
        finished: whether it ended well.
        seconds: over all attempts.
        peak_rss_gb: largest resident memory of the whole tree, in GB (1e9 bytes).
        first_step_seconds: from the start to the beginning of the first training step.
        run: names these results; a stage that is done anew gets another, and what was made from the old is stale.
    """

    key: str
    command: str
    finished: bool = False
    seconds: float = 0.0
    peak_rss_gb: float = 0.0
    first_step_seconds: float | None = None
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    def after(self, seconds: float, peak_rss_gb: float, first_step_seconds: float | None, finished: bool) -> Stamp:
        """The stamp after one more attempt."""
        first = self.first_step_seconds if self.first_step_seconds is not None else first_step_seconds
        return replace(
            self,
            finished=finished,
            seconds=self.seconds + seconds,
            peak_rss_gb=max(self.peak_rss_gb, peak_rss_gb),
            first_step_seconds=first,
        )


def key_of(command: Sequence[str], inputs: Iterable[Stamp], files: Iterable[Path]) -> str:
    """What decides a stage's result: its command, the runs it builds on, the contents of configuration files."""
    contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    material = json.dumps([list(command), [stamp.run for stamp in inputs], contents])
    return hashlib.sha256(material.encode()).hexdigest()[:16]


def read(path: Path) -> Stamp | None:
    """The stamp in a file; None where there is none, or none of this form."""
    try:
        return Stamp(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write(path: Path, stamp: Stamp) -> None:
    """Write by rename: a kill leaves the old stamp or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(asdict(stamp), indent=1) + "\n")
    os.replace(part, path)
