"""Cases of a part: each is run once, kept as a JSON file, and not run again while its settings are the same.

Standard library only, so that a case whose imports fail is a result too.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PASSED, FAILED, ERROR, SKIPPED = "passed", "failed", "error", "skipped"
DONE, WRONG, OUT_OF_TIME = 0, 1, 75
"""Exit status: all cases passed; at least one did not; the time was up before the last case (call again)."""
_TAIL = 30  # lines of a traceback that are kept


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        name: of its file; letters, digits, `-`, `_` and `.`.
        settings: what its result depends on; another value makes the case run again.
        run: returns the values. The key `passed`, if there, is the verdict; a raised exception is an error.
        seconds: about how long it takes; it does not start with less time left.
        needs: names of cases of the same part that must have passed; otherwise it is skipped.
    """

    name: str
    settings: dict[str, Any]
    run: Callable[[], dict[str, Any]]
    seconds: float = 10.0
    needs: tuple[str, ...] = ()


@dataclass
class Clock:
    """Time of one call."""

    budget: float
    start: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.budget - (time.monotonic() - self.start)


@dataclass(frozen=True)
class Options:
    """What run.sh hands over by the environment."""

    device: str
    small: bool
    out: Path
    retry: bool
    clock: Clock

    @classmethod
    def read(cls, environment: dict[str, str] | None = None) -> Options:
        """From DEVICE, SMALL, OUT, RETRY and BUDGET (seconds).

        Raises:
            SystemExit: DEVICE is neither cuda nor cpu.
        """
        env = os.environ if environment is None else environment
        device = env.get("DEVICE") or "cuda"
        if device not in ("cuda", "cpu"):
            raise SystemExit(f"DEVICE={device}: use cuda or cpu")
        return cls(
            device,
            _switch(env.get("SMALL")),
            Path(env.get("OUT") or "outputs/gpu"),
            _switch(env.get("RETRY")),
            Clock(float(env.get("BUDGET") or 480)),
        )


def _switch(value: str | None) -> bool:
    return value not in (None, "", "0")


def source_hash(*paths: str) -> str:
    """A short hash of files of the repository, for settings: a result of other code is not kept."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update((ROOT / path).read_bytes())
    return digest.hexdigest()[:12]


def versions(*names: str) -> dict[str, str]:
    """Installed versions; without those that are not installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def path_of(out: Path, part: str, name: str) -> Path:
    """The file of a case."""
    return out / part / f"{name}.json"


def read(out: Path, part: str, name: str) -> dict[str, Any] | None:
    """The record of a case, or None. A file that is not whole counts as none."""
    try:
        return json.loads(path_of(out, part, name).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def is_kept(record: dict[str, Any] | None, settings: dict[str, Any], retry: bool) -> bool:
    """Whether a record stands: same settings, it did run, and with `retry` it also passed."""
    if record is None or record["settings"] != json.loads(json.dumps(settings)):
        return False
    return record["status"] == PASSED or (record["status"] != SKIPPED and not retry)


def run_all(part: str, cases: Sequence[Case], options: Options) -> int:
    """Run the cases that have no record yet, in order; returns the exit status (DONE, WRONG or OUT_OF_TIME)."""
    status: dict[str, str] = {}
    for case in cases:
        record = read(options.out, part, case.name)
        kept = is_kept(record, case.settings, options.retry)
        if not kept:
            missing = [name for name in case.needs if status.get(name) != PASSED]
            if not missing and options.clock.left < case.seconds:
                left = max(options.clock.left, 0)
                print(f"{part}: {left:.0f} s are left and {case.name} takes about {case.seconds:.0f} s: call again")
                return OUT_OF_TIME
            record = _take(part, case, missing)
            _write(path_of(options.out, part, case.name), record)
        status[case.name] = record["status"]
        print(f"{part}: {case.name}: {record['status']}{' (kept)' if kept else ''} {_short(record)}", flush=True)
    return DONE if set(status.values()) <= {PASSED} else WRONG


def _take(part: str, case: Case, missing: list[str]) -> dict[str, Any]:
    begin = time.perf_counter()
    values: dict[str, Any] = {}
    error = None
    if missing:
        status, error = SKIPPED, f"needs {', '.join(missing)}"
    else:
        try:
            values = case.run()
            status = PASSED if values.pop("passed", True) else FAILED
            error = values.pop("error", None)
        except Exception as problem:  # whatever it is, it is this case's result
            status = ERROR
            lines = "".join(traceback.format_exception(problem)).strip().splitlines()
            error = "\n".join(lines[-_TAIL:])
    return {
        "part": part,
        "name": case.name,
        "status": status,
        "seconds": round(time.perf_counter() - begin, 1),
        "settings": case.settings,
        "values": values,
        "error": error,
        "machine": {"python": platform.python_version(), **versions("torch", "transformers", "triton", "verl", "vllm")},
        "command": f"{Path(sys.argv[0]).name} {' '.join(sys.argv[1:])}".strip(),
    }


def _write(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(record, indent=1) + "\n")
    unfinished.replace(path)


def _short(record: dict[str, Any]) -> str:
    if record["error"]:
        return record["error"].strip().splitlines()[-1][:160]
    return ", ".join(f"{name} {value:.3g}" for name, value in record["values"].items() if isinstance(value, float))
