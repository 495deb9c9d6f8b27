"""A process of vLLM's ends when the one that started it has died.

vLLM 0.28.0's engines go on where their server was killed (`kill -9`, out of memory), with the memory that they hold.
The plugin, which vLLM loads in each of its processes, has them look.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

GRACE_SECONDS = 5.0
"""For an end in good order after the parent's, then after SIGTERM."""


def end_with_parent(grace: float = GRACE_SECONDS) -> None:
    """Have this process end soon after its parent; nothing where it is no child of `multiprocessing`."""
    parent = multiprocessing.parent_process()
    if parent is not None and not any(thread.name == _follow.__name__ for thread in threading.enumerate()):
        threading.Thread(target=_follow, args=(parent, grace), name=_follow.__name__, daemon=True).start()


def _follow(parent: multiprocessing.process.BaseProcess, grace: float) -> None:
    parent.join()
    time.sleep(grace)
    os.kill(os.getpid(), signal.SIGTERM)  # vLLM then ends its workers and takes its rings away
    time.sleep(grace)
    os._exit(1)
