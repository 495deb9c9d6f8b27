"""Start a run anew, ask it to stop during its first step as a batch system does, and keep what it had measured.

    python -m recipe.mer_r1.rehearse.until_stop RUN_DIR recipe.mer_r1.main_ppo key=value …

Exit code 0: it saved its step and stopped (exit code 75); else the run's own, or 1 where it ended by itself.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from recipe.mer_r1.run import steps, stop

METRICS, KEPT = "metrics.jsonl", "metrics.stopped.jsonl"
POLL_SECONDS = 0.2


def main(argv: Sequence[str]) -> int:
    """Run the module; the exit status."""
    run_dir, module, *arguments = argv
    folder = Path(run_dir)
    shutil.rmtree(folder, ignore_errors=True)
    process = subprocess.Popen([sys.executable, "-m", module, *arguments])
    try:
        _ask_to_stop(folder, process)
        code = process.wait()
    except KeyboardInterrupt:  # of the terminal: the run has received it, too
        return process.wait()
    if code == stop.EXIT_CODE:
        shutil.copy(folder / METRICS, folder / KEPT)
        return 0
    if code == 0:
        print("until_stop: the run ended by itself before it could be stopped; it needs two steps or more")
    return code or 1


def _ask_to_stop(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Leave the file that asks for a stop once the validation before the first step is measured."""
    metrics = folder / METRICS
    while process.poll() is None:
        if metrics.exists() and steps.read(metrics):
            (folder / stop.FILE).touch()
            return
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
