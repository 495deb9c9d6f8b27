"""Progress where output goes to a file: a line now and then, with what is left."""

import pytest

from data_prep import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock in seconds that the test moves."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_file_gets_a_line_every_half_minute_and_the_last(clock, capsys):
    with progress.progress("clips", total=10, done=2) as advance:
        for _ in range(4):
            clock[0] += 10
            advance()
        assert capsys.readouterr().err.splitlines() == ["clips 5/10, about 50 s left"]
        clock[0] += 1
        advance(4)
    assert capsys.readouterr().err.splitlines() == ["clips 10/10, about 0 s left"]
