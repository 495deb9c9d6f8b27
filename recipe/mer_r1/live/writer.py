"""Keeps RUN_DIR/live.html fresh from inside the run's own command.

A thread of the process that started the run and now waits for it: it reads files that the run writes anyway, so that
no step waits for a picture, takes at most a fiftieth of its time (a page is 0.04 s after 32 steps, half a second after
1000), and a fault here ends the page (with a traceback in the run's log), never the run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recipe.mer_r1.files.whole import write_whole
from recipe.mer_r1.live.page import page
from recipe.mer_r1.live.status import watch

EVERY = 10.0  # seconds
_PAUSES = 50  # times what a page took
_LAST_PAGE = 10.0  # seconds that the end of a run waits for its last page


def write(names: dict[str, Path], out: Path, every: float) -> bool:
    """Write the page of these runs; whether one of them still runs."""
    runs = [(name, watch(folder)) for name, folder in names.items()]
    write_whole(out, page(runs, every).encode())
    return not all(watched.over for _, watched in runs)


@contextmanager
def kept_live(run_dir: Path, every: float = EVERY) -> Iterator[Path]:
    """Write ``live.html`` every few seconds and once more at the end; to be entered outside of ``recorded``."""
    out = run_dir / "live.html"
    stop = threading.Event()

    def work() -> None:
        pause = every
        while not stop.wait(pause):
            start = time.perf_counter()
            write({run_dir.name: run_dir}, out, pause)
            pause = max(every, _PAUSES * (time.perf_counter() - start))
        write({run_dir.name: run_dir}, out, every)

    thread = threading.Thread(target=work, name="live.html", daemon=True)
    thread.start()
    try:
        yield out
    finally:
        stop.set()
        thread.join(_LAST_PAGE)
