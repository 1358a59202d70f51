"""A run: the folder that holds everything about one training, and the one reader and writer of it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import secrets
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlstab.errors import UserError
from rlstab.runs.atomic import disk_error
from rlstab.runs.info import RUN_FILE, SCHEMA_VERSION, RunInfo, read_info, write_info
from rlstab.runs.locking import FolderLock, is_locked
from rlstab.runs.metrics import MetricsWriter, read_frame
from rlstab.runs.provenance import git_state, machine, package_versions
from rlstab.runs.store import CheckpointStore

if TYPE_CHECKING:
    import pandas  # pyright: ignore[reportMissingTypeStubs]

Section = Literal["evaluations", "exports", "figures", "videos", "failure", "certificates"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]*")


@dataclass(frozen=True)
class ListedRun:
    """A run as a list of runs shows it."""

    path: Path
    """The run's folder."""
    info: RunInfo
    """Its description, the status corrected where the process died without a word."""


class Run:
    """One run's folder. Make it with `create` or `open`.

    Attributes
    ----------
    path : Path
        The folder.
    info : RunInfo
        Mirror of ``run.json``.
    checkpoints : CheckpointStore
        ``checkpoints/``.
    """

    def __init__(self, path: Path, info: RunInfo) -> None:
        self.path = path
        self.info = info
        self.checkpoints = CheckpointStore(path / "checkpoints")
        self._lock = FolderLock(path)

    @classmethod
    def create(
        cls,
        root: Path,
        *,
        method: str,
        env_id: str,
        config: dict[str, Any],
        seed: int,
        device: str,
        command: list[str],
        name: str | None = None,
        total_steps: int = 0,
        torch_threads: int | None = None,
    ) -> Run:
        """Make a new run's folder.

        Parameters
        ----------
        root : Path
            Folder of runs; created when needed.
        method, env_id, config, seed, device, command, total_steps, torch_threads
            See `RunInfo`.
        name : str, optional
            Name of the folder. Default: method, environment, seed and time.

        Raises
        ------
        UserError
            The name is taken or not a plain name, or the disk refuses.
        """
        root = Path(root)
        now = datetime.now(UTC)
        if name is not None:
            check_name(name)
        stem = name or f"{_plain(method)}-{_plain(env_id)}-seed{seed}-{now:%Y%m%d-%H%M%S}"
        stamp = now.isoformat(timespec="seconds")
        info = RunInfo(
            schema_version=SCHEMA_VERSION,
            name=stem,
            method=method,
            env_id=env_id,
            command=list(command),
            config=config,
            seed=seed,
            versions=package_versions(),
            git=git_state(),
            machine=machine(),
            device=device,
            created=stamp,
            updated=stamp,
            total_steps=total_steps,
            torch_threads=torch_threads,
        )
        unfinished = root / f".unfinished-{stem}-{secrets.token_hex(4)}"
        try:
            root.mkdir(parents=True, exist_ok=True)
            unfinished.mkdir()
        except FileExistsError as error:
            raise UserError(f"cannot make a run in {root}: that is a file; choose a folder") from error
        except FileNotFoundError as error:
            raise UserError(
                f"cannot make a run in {root}: that folder does not exist and cannot be made; choose another one"
            ) from error
        except OSError as error:
            raise disk_error(f"cannot make a run in {root}", error) from error
        try:
            path = _claim_folder(unfinished, info, may_rename=name is None)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open a run that is there.

        Raises
        ------
        UserError
            Not a run, a damaged ``run.json``, or one of a newer version.
        """
        path = Path(path)
        return cls(path, read_info(path))

    @cached_property
    def metrics(self) -> MetricsWriter:
        """``metrics.jsonl`` and TensorBoard's files; nothing is touched before the first line."""
        return MetricsWriter(self.path / "metrics.jsonl", self.path / "tensorboard")

    @contextlib.contextmanager
    def lock(self) -> Generator[None]:
        """Be the run's only writer inside a ``with`` block; this object may enter again inside it.

        Raises
        ------
        UserError
            Another process writes the run.
        """
        with self._lock.hold():
            yield

    def current_info(self) -> RunInfo:
        """`info`, with the status corrected where a run that says it is running has no living writer."""
        if self.info.status == "running" and not is_locked(self.path):
            return dataclasses.replace(self.info, status="interrupted", reason="killed")
        return self.info

    def reload(self) -> None:
        """Read ``run.json`` again: another process may have written it since.

        Raises
        ------
        UserError
            As `open`.
        """
        self.info = read_info(self.path)

    def update(self, **changes: Any) -> None:
        """Change fields of `info` and rewrite ``run.json`` in one piece.

        Raises
        ------
        UserError
            The disk refuses; the old ``run.json`` is intact.
        """
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        info = dataclasses.replace(self.info, updated=stamp, **changes)
        write_info(self.path, info)
        self.info = info

    def note(self, event: str, *, step: int, **facts: Any) -> list[dict[str, Any]]:
        """History with one more entry, to be stored with `update`."""
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        return [*self.info.history, {"time": stamp, "event": event, "step": step, **facts}]

    def read_metrics(self) -> pandas.DataFrame:
        """Metrics as a table, a row a line; also while the run is being written."""
        return read_frame(self.path / "metrics.jsonl")

    def folder(self, section: Section) -> Path:
        """A folder for results, made when needed.

        Raises
        ------
        UserError
            The disk refuses.
        """
        path = self.path / section
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise disk_error(f"cannot make {path}", error) from error
        return path

    def close(self) -> None:
        """Close the files of the metrics, if they were opened."""
        if "metrics" in self.__dict__:
            self.metrics.close()


def list_runs(root: Path) -> list[ListedRun]:
    """Runs in a folder, the oldest first; what is not a run, or has a damaged ``run.json``, is left out.

    A run that says it is running but has no living writer is listed as interrupted, reason "killed".
    """
    root = Path(root)
    if not root.is_dir():
        return []
    listed: list[ListedRun] = []
    for path in root.iterdir():
        if path.name.startswith(".") or not (path / RUN_FILE).is_file():
            continue
        with contextlib.suppress(UserError):
            listed.append(ListedRun(path, Run.open(path).current_info()))
    return sorted(listed, key=lambda run: (run.info.created, run.info.name))


def check_name(name: str) -> None:
    """Refuse what cannot name a run's folder.

    Raises
    ------
    UserError
        The name is empty, or has other than plain characters.
    """
    if not name:
        raise UserError("an empty name cannot name a run: give one, or none for a name made of method, seed and time")
    if not _NAME.fullmatch(name):
        allowed = "use letters, digits and . _ + = -, no slash or space, a letter or digit first"
        raise UserError(f"'{name}' cannot name a run: {allowed}")


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.") or "unnamed"


def _claim_folder(unfinished: Path, info: RunInfo, *, may_rename: bool) -> Path:
    """Give a finished folder its name. A run's folder therefore never lacks its ``run.json``."""
    count = 1
    while True:
        name = info.name if count == 1 else f"{info.name}-{count}"
        path = unfinished.with_name(name)
        # Renaming would silently replace an empty folder, so look first; a full one refuses by itself.
        if not path.exists():
            write_info(unfinished, dataclasses.replace(info, name=name))
            try:
                os.rename(unfinished, path)
            except OSError as error:
                if not path.exists():
                    raise disk_error(f"cannot make the run {path}", error) from error
            else:
                return path
        if not may_rename:
            raise UserError(f"{path} exists: choose another name, or resume that run")
        count += 1
