"""Ports for later: free, outside what others are given, and not the same for every run."""

import random
import socket

import pytest

from verl_ext.platform import ports


def test_a_port_is_free_and_in_the_range_that_nobody_gives_out():
    port = ports.free_port()
    assert ports.FIRST <= port < ports.END
    with socket.socket() as server:
        server.bind(("", port))


def test_seeded_runs_search_from_different_ports():
    found = set()
    for _ in range(20):
        random.seed(1)
        found.add(ports.port_range()[0])
    assert len(found) > 15


def test_a_taken_port_is_passed_over(monkeypatch):
    with socket.socket() as server:
        server.bind(("", ports.free_port()))
        taken = server.getsockname()[1]
        monkeypatch.setattr(ports, "port_range", lambda: (taken, ports.END))
        assert ports.free_port() > taken
        monkeypatch.setattr(ports, "port_range", lambda: (taken, taken + 1))
        with pytest.raises(OSError, match=f"no TCP port between {taken} and {taken + 1} is free"):
            ports.free_port()
