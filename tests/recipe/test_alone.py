"""Locks: one process at a time, and file systems without them."""

import errno
import fcntl

import pytest

from recipe.mer_r1.files.alone import alone, take


def test_a_lock_is_held_until_its_file_is_closed(tmp_path):
    first = take(tmp_path / "new" / "lock")
    assert take(tmp_path / "new" / "lock") is None
    first.close()
    second = take(tmp_path / "new" / "lock")
    assert second is not None
    second.close()


def test_alone_refuses_the_second_and_lets_it_in_afterwards(tmp_path):
    refusal = ValueError("another one")
    with (
        alone(tmp_path / "lock", refusal),
        pytest.raises(ValueError, match="another one"),
        alone(tmp_path / "lock", refusal),
    ):
        pass
    with alone(tmp_path / "lock", refusal):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, number):
    def flock(_file, _how):
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="this file system has no locks"), alone(tmp_path / "lock", ValueError()):
        pass


def test_any_other_fault_is_an_error(tmp_path, monkeypatch):
    def flock(_file, _how):
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="broken disk"):
        take(tmp_path / "lock")
