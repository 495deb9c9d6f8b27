"""Ports that are chosen now and opened later, by another process, for torch.distributed to meet at.

The usual way asks the kernel (port 0) and lets go again. Until a worker has imported torch and opens the port, tens of
seconds later, the kernel may give it to any other connection of the machine, of which a Ray run makes hundreds; the
run then ends with EADDRINUSE. The ports from here are ones that the kernel gives to nobody by itself.
"""

from __future__ import annotations

import random
import socket
from contextlib import suppress

FIRST, END = 20_000, 32_768
"""Above the ports of Ray's workers (10002 to 19999), below those that Linux gives out by itself (from 32768,
unless the machine's `net.ipv4.ip_local_port_range` says otherwise)."""
ROOM = 1_000
"""Ports that a search has at least."""

# Not the module's generator: runs that are seeded alike would begin at the same port.
_random = random.SystemRandom()


def port_range() -> tuple[int, int]:
    """(first, end) of a search upwards; it begins elsewhere each time, so that runs do not meet at the same port."""
    return _random.randrange(FIRST, END - ROOM), END


def free_port() -> int:
    """A TCP port that is free now, on every address of this machine.

    Raises:
        OSError: all ports from a random one to `END` are taken.
    """
    first, end = port_range()
    for port in range(first, end):
        with socket.socket() as server, suppress(OSError):
            server.bind(("", port))
            return port
    raise OSError(f"no TCP port between {first} and {end} is free on this machine")
