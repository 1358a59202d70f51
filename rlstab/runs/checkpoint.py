"""The files of one checkpoint: safetensors and JSON, checksummed, and never unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from rlstab.errors import UserError
from rlstab.runs.atomic import DiskError, disk_error, sync_folder
from rlstab.runs.state import StateTree, array_names, pack, unpack
from rlstab.runs.tensors import digest_file, read_tensors, write_tensors

SCHEMA_VERSION = 1

_TENSORS = "tensors.safetensors"
_META = "meta.json"
_STEP_FOLDER = re.compile(r"step-(\d{12,})")


class DamagedCheckpointError(UserError):
    """A checkpoint whose files are not the ones that were written."""


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says about itself, without its arrays."""

    path: Path
    """The checkpoint's folder."""
    step: int
    """Environment steps of training behind it."""
    score: float | None
    """What `CheckpointStore.best` compares, higher is better; None where nothing was measured."""
    extra: bool
    """Written because training was interrupted, not because it was due; dropped once a later one is due."""
    meta: dict[str, Any]
    """What the writer added, JSON."""


@dataclass(frozen=True)
class Checkpoint(CheckpointInfo):
    """A checkpoint with everything in it."""

    state: StateTree
    """The tree that was saved."""


def read_info(path: Path, *, look_back: bool = True) -> CheckpointInfo:
    """Read what a checkpoint says about itself; its arrays are neither read nor checked.

    Parameters
    ----------
    path : Path
        A checkpoint's folder.
    look_back : bool
        Whether the message about a damaged one names the newest older one that is intact, for which older ones are read
        in full.

    Raises
    ------
    DamagedCheckpointError
        ``meta.json`` is missing, torn or changed.
    UserError
        Not a checkpoint, or one of a newer version.
    """
    try:
        return _info(path, _read_document(path))
    except DamagedCheckpointError as error:
        if not look_back:
            raise
        raise DamagedCheckpointError(f"{error}; {_older_intact(path)}") from None


def read_checkpoint(path: Path, branch: str | None = None) -> Checkpoint:
    """Read a checkpoint, having compared every byte with its checksum.

    Parameters
    ----------
    path : Path
        A checkpoint's folder, as `CheckpointStore.latest` gives it.
    branch : str, optional
        Load only this key of the state, as in ``"policy"``; default: everything. The checksum is that of the whole
        file, so all of it is read from the disk once, a few megabytes at a time, but a replay buffer of gigabytes
        takes no memory.

    Returns
    -------
    Checkpoint
        The arrays in its state own their memory.

    Raises
    ------
    DamagedCheckpointError
        Truncated or changed. The message names the file, the checksum that was expected, the one found, and the newest
        older checkpoint that is intact.
    DiskError
        The disk does not give the files back.
    UserError
        Not a checkpoint, one of a newer version, or one without that branch.
    """
    try:
        document = _read_document(path)
        _verify_tensors(path, document)
    except DamagedCheckpointError as error:
        raise DamagedCheckpointError(f"{error}; {_older_intact(path)}") from None
    skeleton: dict[str, Any] = document["state"]
    if branch is not None:
        if branch not in skeleton:
            raise UserError(f"the checkpoint {path} holds no '{branch}', only {', '.join(skeleton) or 'nothing'}")
        skeleton = {branch: skeleton[branch]}
    try:
        state: StateTree = unpack(read_tensors(path / _TENSORS, array_names(skeleton)), skeleton)
    except ValueError as error:
        raise UserError(f"cannot read the checkpoint {path}: {error}") from error
    except OSError as error:
        raise disk_error(f"cannot read {path / _TENSORS}", error) from error
    return Checkpoint(**vars(_info(path, document)), state=state)


def is_intact(path: Path) -> bool:
    """Whether a checkpoint can be read and has the checksums it should; its arrays are not loaded.

    Raises
    ------
    UserError
        Not a checkpoint, or one of a newer version.
    """
    try:
        _verify_tensors(path, _read_document(path))
    except (DamagedCheckpointError, DiskError):
        return False
    return True


def folder_name(step: int) -> str:
    """Name of the folder of a step's checkpoint."""
    return f"step-{step:012d}"


def find_steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in a folder, ascending; whether they are intact is found out on reading.

    Raises
    ------
    DiskError
        The folder cannot be read.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise disk_error(f"cannot read {folder}", error) from error
    return sorted(int(match[1]) for name in names if (match := _STEP_FOLDER.fullmatch(name)))


def write_checkpoint(
    folder: Path, step: int, state: StateTree, *, score: float | None, meta: dict[str, Any], extra: bool
) -> None:
    """Write a checkpoint's files into an empty folder and force them to the disk.

    Raises
    ------
    OSError
        As the system says; part of the files may then be there.
    """
    tensors, skeleton = pack(state)
    digest = write_tensors(folder / _TENSORS, tensors)
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "step": step,
        "score": score,
        "extra": extra,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "meta": meta,
        "files": {_TENSORS: {"sha256": digest.sha256, "bytes": digest.bytes}},
        "state": skeleton,
    }
    document["sha256"] = _document_digest(document)
    with open(folder / _META, "xb") as file:
        file.write(json.dumps(document, indent=1, allow_nan=False).encode())
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


def _document_digest(document: dict[str, Any]) -> str:
    """Checksum of ``meta.json``'s content, whatever its white space, without the field that holds the checksum."""
    rest = {key: value for key, value in document.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, separators=(",", ":")).encode()).hexdigest()


def _read_document(path: Path) -> dict[str, Any]:
    try:
        parsed: Any = json.loads((path / _META).read_bytes())
    except FileNotFoundError:
        if not path.is_dir():
            raise UserError(f"there is no checkpoint at {path}") from None
        raise DamagedCheckpointError(f"the checkpoint {path} is damaged: {_META} is missing") from None
    except NotADirectoryError:
        raise UserError(f"{path} is not a checkpoint: checkpoints are folders step-... inside a run") from None
    except OSError as error:
        raise disk_error(f"cannot read {path / _META}", error) from error
    except ValueError as error:
        raise DamagedCheckpointError(f"the checkpoint {path} is damaged: {_META} is not whole ({error})") from None
    document = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
    version = document.get("schema_version")
    if not isinstance(version, int):
        raise DamagedCheckpointError(f"the checkpoint {path} is damaged: {_META} is not a checkpoint's description")
    if version > SCHEMA_VERSION:
        raise UserError(f"the checkpoint {path} was written by a newer rlstab: update this one to read it")
    expected, found = document.get("sha256"), _document_digest(document)
    if expected != found:
        raise DamagedCheckpointError(
            f"the checkpoint {path} is damaged: {_META} was changed, its checksum is {found} but should be {expected}"
        )
    return document


def _info(path: Path, document: dict[str, Any]) -> CheckpointInfo:
    return CheckpointInfo(path, document["step"], document["score"], document["extra"], document["meta"])


def _verify_tensors(path: Path, document: dict[str, Any]) -> None:
    expected = document["files"][_TENSORS]
    file = path / _TENSORS
    try:
        found = digest_file(file)
    except FileNotFoundError:
        raise DamagedCheckpointError(f"the checkpoint {path} is damaged: {_TENSORS} is missing") from None
    except OSError as error:
        raise disk_error(f"cannot read {file}", error) from error
    if found.sha256 != expected["sha256"]:
        how = f"has {found.bytes} of {expected['bytes']} bytes" if found.bytes != expected["bytes"] else "was changed"
        raise DamagedCheckpointError(
            f"the checkpoint {path} is damaged: {_TENSORS} {how}, "
            f"its checksum is {found.sha256} but should be {expected['sha256']}"
        )


def _older_intact(path: Path) -> str:
    match = _STEP_FOLDER.fullmatch(path.name)
    older = [step for step in find_steps(path.parent) if match and step < int(match[1])]
    for step in reversed(older):
        candidate = path.with_name(folder_name(step))
        try:
            _verify_tensors(candidate, _read_document(candidate))
        except UserError:
            continue
        return f"the newest older one that is intact is {candidate}"
    return "no older checkpoint is intact"
