"""Write arrays as a safetensors file while hashing them, and read one back.

The safetensors library itself reads. It is not used for writing: its writer needs a second copy of every array in
memory, does not force the file to the disk, and hides the system's error behind its own; a replay buffer of a gigabyte
and a full disk both matter here. The format is a little-endian 64-bit header length, a JSON header and the raw arrays.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlstab.errors import UserError

FORMAT_NAMES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "complex64": "C64",
}
"""Element types a file can hold: numpy's name and the format's."""

_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True)
class FileDigest:
    """What a file must look like to be the one that was written."""

    sha256: str
    """Hexadecimal SHA-256 of the content."""
    bytes: int
    """Length."""


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]]) -> FileDigest:
    """Write a new safetensors file and force it to the disk.

    Parameters
    ----------
    path : Path
        Must not exist.
    tensors : mapping of str to numpy.ndarray
        Native byte order; any memory layout.

    Returns
    -------
    FileDigest
        Checksum and length of the file.

    Raises
    ------
    OSError
        As the system says; the file may then be there in part.
    """
    if sys.byteorder != "little":
        raise UserError("checkpoints need a little-endian machine, which this is not")
    # Widest elements first, so that every array starts at a multiple of its element size.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    header: dict[str, Any] = {}
    offset = 0
    for name, array in ordered:
        end = offset + array.nbytes
        header[name] = {
            "dtype": FORMAT_NAMES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    digest = hashlib.sha256()
    length = 0
    with open(path, "xb") as file:
        for block in (len(encoded).to_bytes(8, "little"), encoded):
            digest.update(block)
            length += file.write(block)
        for _, array in ordered:
            # reshape copies only what is not contiguous; the view serves empty and zero-dimensional arrays too.
            flat = array.reshape(-1).view(np.uint8)
            for start in range(0, flat.size, _CHUNK_BYTES):
                chunk = flat[start : start + _CHUNK_BYTES].data
                digest.update(chunk)
                length += file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return FileDigest(digest.hexdigest(), length)


def digest_file(path: Path) -> FileDigest:
    """Checksum and length of a file on the disk."""
    digest = hashlib.sha256()
    length = 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            length += len(chunk)
    return FileDigest(digest.hexdigest(), length)


def read_tensors(path: Path, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read arrays of a safetensors file; they own their memory and are writable.

    Parameters
    ----------
    path : Path
        The file.
    names : iterable of str, optional
        Which arrays, the others are not loaded. Default: all.

    Raises
    ------
    ValueError
        Not a safetensors file, or an array is missing.
    """
    import safetensors

    open_file: Any = safetensors.safe_open  # Without types.
    try:
        with open_file(path, framework="numpy") as file:
            wanted: list[str] = list(file.keys() if names is None else names)
            loaded: dict[str, NDArray[Any]] = {name: file.get_tensor(name) for name in wanted}
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from error
    return {name: array if array.flags.writeable else array.copy() for name, array in loaded.items()}
