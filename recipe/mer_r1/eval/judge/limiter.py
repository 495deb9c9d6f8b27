"""When the next request may go out: evenly spaced starts, and a pause for all when the endpoint asks for one."""

from __future__ import annotations

import asyncio
import time


class Limiter:
    """One for all workers of an event loop.

    Args:
        per_minute: starts of requests in any minute, evenly spaced; None: no limit.
    """

    def __init__(self, per_minute: float | None = None) -> None:
        self._spacing_s = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0

    async def turn(self) -> None:
        """Return when a request may start."""
        while (wait := self._next - time.monotonic()) > 0:
            await asyncio.sleep(wait)  # the pause may have grown meanwhile: look again
        self._next = time.monotonic() + self._spacing_s

    def hold(self, seconds: float) -> None:
        """Let nothing start for so long."""
        self._next = max(self._next, time.monotonic() + seconds)
