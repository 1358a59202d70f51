"""Files that are either the old one or the new one, whatever kills the process in between."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from rlstab.errors import UserError

_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "permission denied: make the folder writable or choose another one",
    errno.EPERM: "permission denied: make the folder writable or choose another one",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.ENOTDIR: "a part of the path is a file, not a folder: choose another folder",
}


class DiskError(UserError):
    """The disk is full, read-only or refuses. What was there before is intact."""


def disk_error(doing: str, error: OSError) -> DiskError:
    """Phrase a failed disk access for a person.

    Parameters
    ----------
    doing : str
        What could not be done, with the path, as in ``"cannot write /runs/a/run.json"``.
    error : OSError
        What the system said.

    Returns
    -------
    DiskError
        One line with the cause and what to do; raise it ``from error``.
    """
    reason = _ADVICE.get(error.errno or 0) or error.strerror or str(error)
    return DiskError(f"{doing}: {reason}")


def sync_folder(folder: Path) -> None:
    """Force a folder's entries (new names, renames) to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file, or leave the one that was there untouched.

    The data goes to a temporary file in the same folder, is forced to the disk and then renamed over `path`.

    Raises
    ------
    DiskError
        The disk is full, read-only or refuses; the message names the file.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise disk_error(f"cannot write {path}", error) from error


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 text file, or leave the one that was there untouched; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))
