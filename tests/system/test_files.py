"""Locks, where a file system has them and where not."""

import errno
import os

import pytest

from common.system import files
from common.system.files import locked, one_process_at_a_time

pytestmark = pytest.mark.skipif(files.fcntl is None, reason="Windows locks otherwise")


def test_a_second_process_is_told(tmp_path):
    with locked(tmp_path / ".lock") as alone:
        assert alone
        with locked(tmp_path / ".lock") as second:
            assert not second
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_work_goes_on_with_one_line(tmp_path, monkeypatch, capsys, number):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with locked(tmp_path / ".lock") as alone:
        assert alone
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: {tmp_path}: this file system has no locks; see to it that no")
    with one_process_at_a_time("test-of-locks"):
        pass


def test_other_errors_of_locking_are_not_hidden(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output"), locked(tmp_path / ".lock"):
        pass
