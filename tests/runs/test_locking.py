from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rlstab.errors import UserError
from rlstab.runs.locking import FolderLock, is_locked

HOLDER = """
import sys, time
from pathlib import Path
from rlstab.runs.locking import FolderLock
with FolderLock(Path(sys.argv[1])).hold():
    print("held", flush=True)
    time.sleep(60)
"""

FORKER = """
import os, sys, time
from pathlib import Path
from rlstab.runs.locking import FolderLock
with FolderLock(Path(sys.argv[1])).hold():
    if os.fork() == 0:
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with FolderLock(tmp_path).hold():
        assert is_locked(tmp_path)
        with (
            pytest.raises(UserError, match=rf"in use by another process \(process {os.getpid()}\)"),
            FolderLock(tmp_path).hold(),
        ):
            pass
    assert not is_locked(tmp_path)
    with FolderLock(tmp_path).hold():
        pass


def test_the_holder_may_enter_again(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    with lock.hold():
        with lock.hold():
            pass
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_an_exception_releases(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), FolderLock(tmp_path).hold():
        raise RuntimeError
    assert not is_locked(tmp_path)


def test_a_killed_holder_releases(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert is_locked(tmp_path)
        with pytest.raises(UserError, match=f"process {holder.pid}"), FolderLock(tmp_path).hold():
            pass
        holder.send_signal(signal.SIGKILL)
    assert not is_locked(tmp_path)
    with FolderLock(tmp_path).hold():
        pass


def test_a_forked_worker_that_outlives_its_parent_does_not_keep_the_lock(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", FORKER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        try:
            os.kill(worker, 0)  # Alive.
            assert not is_locked(tmp_path)
        finally:
            os.kill(worker, signal.SIGKILL)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "gone")
    with pytest.raises(UserError, match="gone"), FolderLock(tmp_path / "gone").hold():
        pass
