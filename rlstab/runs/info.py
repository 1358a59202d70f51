"""``run.json``: what a run says about itself."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from rlstab.errors import UserError
from rlstab.runs.atomic import disk_error, write_text
from rlstab.runs.config import from_json, to_json

SCHEMA_VERSION = 1
RUN_FILE = "run.json"

Status = Literal["running", "finished", "interrupted", "failed"]


@dataclass(frozen=True)
class RunInfo:
    """What ``run.json`` says."""

    schema_version: int
    """Version of this layout."""
    name: str
    """The folder's name."""
    method: str
    """Registered name of the method."""
    env_id: str
    """Environment trained on."""
    command: list[str]
    """The command line, a word an element."""
    config: dict[str, Any]
    """Resolved configuration, as `rlstab.runs.config.to_json` gives it."""
    seed: int
    """Seed all others derive from."""
    versions: dict[str, str]
    """Python and packages, when the run began."""
    git: dict[str, Any]
    """Source revision, when the run began; empty where unknown."""
    machine: dict[str, Any]
    """Computer the run began on."""
    device: str
    """Torch device of the networks, as it was last trained on."""
    created: str
    """ISO 8601, UTC."""
    updated: str
    """ISO 8601, UTC: the last change of this file."""
    status: Status = "running"
    """How the run stands."""
    reason: str = ""
    """Why it is interrupted or failed."""
    total_steps: int = 0
    """Environment steps asked for."""
    step: int = 0
    """Environment steps done, as of `updated`."""
    torch_threads: int | None = None
    """Threads torch computed with, as it was last trained; None where unknown."""
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """What happened when: starts, interruptions, resumptions, damaged checkpoints."""


def write_info(path: Path, info: RunInfo) -> None:
    """Rewrite a run's ``run.json`` in one piece.

    Raises
    ------
    DiskError
        The disk refuses; the old file is intact.
    """
    write_text(path / RUN_FILE, json.dumps(to_json(info), indent=2) + "\n")


def read_info(path: Path) -> RunInfo:
    """Read a run's ``run.json``.

    Raises
    ------
    UserError
        Not a run, a damaged ``run.json``, or one of a newer version.
    """
    file = path / RUN_FILE
    try:
        document: Any = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        what = f"{path} is not a run: no {RUN_FILE}" if path.exists() else f"there is no folder {path}"
        raise UserError(f"{what}; runs are folders made by `rlstab train`") from None
    except OSError as error:
        raise disk_error(f"cannot read {file}", error) from error
    except ValueError as error:
        raise UserError(f"{file} is damaged: it is not JSON ({error})") from None
    version: Any = cast("dict[str, Any]", document).get("schema_version") if isinstance(document, dict) else None
    if not isinstance(version, int):
        raise UserError(f"{file} is damaged: it does not describe a run")
    if version > SCHEMA_VERSION:
        raise UserError(f"{path} was written by a newer rlstab: update this one to read it")
    try:
        return from_json(RunInfo, cast("dict[str, Any]", document))
    except UserError as error:
        raise UserError(f"{file} is damaged: {error}") from None
