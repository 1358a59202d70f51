"""The checkpoints of a run: published whole or not at all, the last few and the best kept."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any, Literal, TypeAlias

from rlstab.errors import UserError, command
from rlstab.runs.atomic import DiskError, disk_error, sync_folder
from rlstab.runs.checkpoint import CheckpointInfo, find_steps, folder_name, read_info, write_checkpoint
from rlstab.runs.state import StateTree

# Folders that are not checkpoints. A process may be killed at any line of this file; `CheckpointStore.recover` then
# knows by the name what was going on.
_UNFINISHED = ".unfinished-"
_REPLACED = ".replaced-"
_DELETED = ".deleted-"
_DAMAGED = "damaged-"


Which: TypeAlias = Literal["best", "last"] | int
"""Which checkpoint of a run: the best by score, the newest, or that of a step."""


def which_checkpoint(name: str | int) -> Which:
    """Read how a person names a checkpoint: ``best``, ``last`` or a step number, as in ``200_000``.

    Raises
    ------
    UserError
        It is none of these.
    """
    if isinstance(name, int) or name == "best" or name == "last":
        return name
    digits = name.replace("_", "").replace(",", "")
    if not (digits.isascii() and digits.isdigit()):
        raise UserError(f"'{name}' names no checkpoint; it must be best, last or a step number")
    return int(digits)


class CheckpointStore:
    """The checkpoints of one run, a folder each.

    Parameters
    ----------
    folder : Path
        Created with the first checkpoint.
    keep_last : int
        How many of the newest stay; the best by score stays too.

    Notes
    -----
    One writer at a time (the run's lock sees to that), any number of readers. A checkpoint appears under its final
    name, by one rename, only after every byte of it was forced to the disk.
    """

    def __init__(self, folder: Path, keep_last: int = 3) -> None:
        if keep_last < 1:
            raise UserError(f"at least one checkpoint must be kept, not {keep_last}")
        self.folder = folder
        self.keep_last = keep_last

    def save(
        self,
        step: int,
        state: StateTree,
        *,
        score: float | None = None,
        meta: dict[str, Any] | None = None,
        extra: bool = False,
    ) -> Path:
        """Write a checkpoint, then delete those that need not be kept.

        Parameters
        ----------
        step : int
            Environment steps so far. A checkpoint that is there for the same step is replaced.
        state : dict
            See `rlstab.runs.state.pack`.
        score : float, optional
            Higher is better.
        meta : dict, optional
            JSON-able facts to keep with it.
        extra : bool
            Not one of the regular checkpoints: it takes no place among the last k and goes with the next regular one.

        Returns
        -------
        Path
            The checkpoint's folder.

        Raises
        ------
        DiskError
            The disk is full, read-only or refuses. The checkpoints that were there are still there.
        """
        name = folder_name(step)
        final, unfinished = self.folder / name, self.folder / f"{_UNFINISHED}{name}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.recover()
            try:
                unfinished.mkdir()
                write_checkpoint(unfinished, step, state, score=score, meta=meta or {}, extra=extra)
                self._publish(unfinished, final)
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
        except OSError as error:
            raise self._save_failed(step, error) from error
        # The new checkpoint is safe; what cannot be deleted now is tried again after the next one.
        with contextlib.suppress(OSError):
            self._prune()
        return final

    def steps(self) -> list[int]:
        """Steps of all checkpoints, ascending; whether they are intact is found out on reading."""
        return find_steps(self.folder)

    def latest(self) -> Path | None:
        """Newest checkpoint, None where there is none."""
        steps = self.steps()
        return self._path(steps[-1]) if steps else None

    def best(self) -> Path | None:
        """Checkpoint with the highest score, the earliest of equals; the newest where none has a score."""
        scored = [info for info in self._readable() if info.score is not None]
        if not scored:
            return self.latest()
        return max(scored, key=lambda info: (info.score, -info.step)).path

    def at(self, step: int) -> Path:
        """Checkpoint of a given step.

        Raises
        ------
        UserError
            There is none; the message lists those there are.
        """
        steps = self.steps()
        if step in steps:
            return self._path(step)
        there = ", ".join(str(known) for known in steps) or "none"
        raise UserError(f"{self.folder} has no checkpoint of step {step}; there: {there}")

    def find(self, which: str | int) -> Path:
        """Checkpoint by the name a person gives it; see `which_checkpoint`.

        Raises
        ------
        UserError
            There is no such checkpoint.
        """
        chosen = which_checkpoint(which)
        if isinstance(chosen, int):
            return self.at(chosen)
        path = self.best() if chosen == "best" else self.latest()
        if path is None:
            run = self.folder.parent
            raise UserError(f"{run} has no checkpoint yet; train it further: {command('train', '--resume', run)}")
        return path

    def recover(self) -> None:
        """Clear away what a killed writer left. Only the holder of the run's lock may call this."""
        if not self.folder.is_dir():
            return
        for path in list(self.folder.iterdir()):
            if path.name.startswith((_UNFINISHED, _DELETED)):
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.startswith(_REPLACED):
                final = self.folder / path.name.removeprefix(_REPLACED)
                # Killed between the two renames of `_publish`: the old one is all there is, so it comes back.
                if final.exists():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.rename(final)

    def set_aside(self, path: Path) -> Path:
        """Rename a damaged checkpoint so that it is no longer offered, and keep it for whoever wants to look."""
        target = self.folder / f"{_DAMAGED}{path.name}"
        count = 1
        while target.exists():
            count += 1
            target = self.folder / f"{_DAMAGED}{path.name}-{count}"
        try:
            path.rename(target)
        except OSError as error:
            raise disk_error(f"cannot set the damaged checkpoint {path} aside", error) from error
        return target

    def _path(self, step: int) -> Path:
        return self.folder / folder_name(step)

    def _publish(self, unfinished: Path, final: Path) -> None:
        if final.exists():
            replaced = self.folder / f"{_REPLACED}{final.name}"
            final.rename(replaced)
            unfinished.rename(final)
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            unfinished.rename(final)
        sync_folder(self.folder)

    def _readable(self) -> list[CheckpointInfo]:
        infos: list[CheckpointInfo] = []
        for step in self.steps():
            # A reader races with the writer's clearing away, so a checkpoint may be gone by now.
            with contextlib.suppress(UserError):
                infos.append(read_info(self._path(step), look_back=False))
        return infos

    def _prune(self) -> None:
        infos = self._readable()
        regular = [info for info in infos if not info.extra]
        if not regular:
            return
        best = self.best()
        kept = {info.path for info in regular[-self.keep_last :]}
        for info in infos:
            passed = info.step < regular[-1].step if info.extra else info.path not in kept
            if passed and info.path != best:
                # Renamed first: a kill halfway through the deletion must not leave something like a checkpoint.
                deleted = self.folder / f"{_DELETED}{info.path.name}"
                info.path.rename(deleted)
                shutil.rmtree(deleted, ignore_errors=True)

    def _save_failed(self, step: int, error: OSError) -> DiskError:
        failure = disk_error(f"cannot write the checkpoint of step {step} to {self.folder}", error)
        with contextlib.suppress(UserError):
            previous = self.latest()
            if previous is not None:
                return DiskError(f"{failure}; the previous checkpoint, {previous.name}, is intact")
        return failure
