"""One writer a folder: an advisory lock that the system releases when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Generator
from pathlib import Path

from rlstab.errors import UserError
from rlstab.runs.atomic import disk_error

_LOCK_NAME = ".lock"
_PATIENCE_S = 0.5

_held: set[int] = set()


def _close_in_child() -> None:
    """Let go of the parent's locks in a forked child; a worker that outlives a killed parent must not keep them."""
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


class FolderLock:
    """Exclusive use of a folder between processes, and between two holders in one process.

    The same object may enter again while it holds the lock.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._depth = 0

    @contextlib.contextmanager
    def hold(self) -> Generator[None]:
        """Hold the lock inside a ``with`` block.

        Raises
        ------
        UserError
            Another process holds it, or the folder cannot be written.
        """
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        descriptor = self._acquire()
        _held.add(descriptor)
        self._depth = 1
        try:
            yield
        finally:
            self._depth = 0
            # A forked child has emptied the set, and closed its copy, already.
            if descriptor in _held:
                _held.discard(descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.close(descriptor)

    def _acquire(self) -> int:
        path = self._folder / _LOCK_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise disk_error(f"cannot write to {self._folder}", error) from error
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # `is_locked` of somebody who lists the runs holds it for an instant; only a writer holds on.
                if time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
                os.close(descriptor)
                raise UserError(
                    f"{self._folder} is in use by another process{f' ({holder})' if holder else ''}: "
                    "wait for it, or stop it first"
                ) from None
            except OSError as error:
                os.close(descriptor)
                raise disk_error(f"cannot lock {self._folder}", error) from error
        # The number is a courtesy to whoever finds the folder taken; a full disk must not stop us here.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"process %d\n" % os.getpid(), 0)
        return descriptor


def is_locked(folder: Path) -> bool:
    """Tell whether a writer is at work in a folder; needs no write permission."""
    try:
        descriptor = os.open(folder / _LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
