"""What a run says of itself in RUN_DIR/run.json: which process it is, how many steps it takes, how it ended.

For those who watch a run from outside: a metrics file alone does not tell a slow step from a run that was killed.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from recipe.mer_r1.files.whole import write_whole
from recipe.mer_r1.run import stop

RUNNING, FINISHED, FAILED, INTERRUPTED, DIED, UNKNOWN = (
    "running",
    "finished",
    "failed",
    "interrupted",
    "died",
    "unknown",
)

CLOCK_SECONDS = 60
"""The start of a process is counted from the machine's, which moves when its clock is set."""


@dataclass(frozen=True)
class RunRecord:
    """One run of the command; a resumed run writes a new one.

    Attributes:
        host, pid, created: the process, as psutil identifies it (a pid alone is used again).
        steps: that the whole run takes; 0 where unknown.
        started, ended: seconds since 1970; ``ended`` is 0 while it runs.
        state: running, finished, failed or interrupted, as the process itself left it.
        error: of a failed run.
    """

    host: str
    pid: int
    created: float
    steps: int
    started: float
    ended: float = 0.0
    state: str = RUNNING
    error: str = ""

    def seen_from_here(self) -> str:
        """The state; "died" where the record says running and the process is gone from this machine."""
        if self.state != RUNNING or self.host != socket.gethostname():
            return self.state
        try:
            moved = abs(psutil.Process(self.pid).create_time() - self.created)
            return RUNNING if moved < CLOCK_SECONDS else DIED
        except psutil.NoSuchProcess:
            return DIED


def shard_rows(files: Iterable[str]) -> int:
    """Rows of parquet shards."""
    return sum(pq.read_metadata(file).num_rows for file in files)


def readable(count: Callable[[], int]) -> int | None:
    """What is counted in shards; None where one cannot be read, as the checks will say."""
    try:
        return count()
    except (OSError, pa.ArrowException):
        return None


def path_in(run_dir: Path) -> Path:
    """Where the record of a run stands."""
    return run_dir / "run.json"


def read(run_dir: Path) -> RunRecord | None:
    """The record; None where the run left none.

    Raises:
        ValueError: the file is not a record.
    """
    path = path_in(run_dir)
    try:
        return RunRecord(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is not the record of a run ({error}); delete it, and the next run writes it again."
        ) from error


@contextmanager
def recorded(run_dir: Path, steps: int) -> Iterator[None]:
    """Write the record of this process, and at the end how it ended."""
    process = psutil.Process()
    record = RunRecord(socket.gethostname(), process.pid, process.create_time(), steps, time.time())
    run_dir.mkdir(parents=True, exist_ok=True)
    _write(record, run_dir)
    try:
        yield
    except (KeyboardInterrupt, stop.Stopped):
        _write(replace(record, state=INTERRUPTED, ended=time.time()), run_dir)
        raise
    except BaseException as error:
        _write(replace(record, state=FAILED, ended=time.time(), error=_in_short(error)), run_dir)
        raise
    _write(replace(record, state=FINISHED, ended=time.time()), run_dir)


def interrupted(run_dir: Path) -> None:
    """Note in the record of this process that the run was interrupted, where it says that the run goes on."""
    record = read(run_dir)
    if record and record.state == RUNNING and record.pid == psutil.Process().pid:
        _write(replace(record, state=INTERRUPTED, ended=time.time()), run_dir)


def _in_short(error: BaseException) -> str:
    """Type and last line: a worker's error carries its whole traceback."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip()[:500]}" if lines else type(error).__name__


def _write(record: RunRecord, run_dir: Path) -> None:
    write_whole(path_in(run_dir), (json.dumps(asdict(record)) + "\n").encode())
