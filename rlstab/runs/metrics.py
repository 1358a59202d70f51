"""Metrics: an append-only file of JSON lines that survives a kill, mirrored to TensorBoard where that works."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat

from rlstab.errors import UserError
from rlstab.runs.atomic import disk_error
from rlstab.runs.tensorboard import EventFile

if TYPE_CHECKING:
    import pandas  # pyright: ignore[reportMissingTypeStubs]


class MetricsWriter:
    """Append metrics, one flat JSON object a line: ``step``, ``time`` (Unix, s) and the values.

    Parameters
    ----------
    path : Path
        The file of JSON lines; created with the first line.
    tensorboard : Path, optional
        Folder for TensorBoard's event files. Should they fail, training goes on without them and `tensorboard_problem`
        says why: they are a view of the lines, which are the record.
    """

    def __init__(self, path: Path, tensorboard: Path | None = None) -> None:
        self.path = path
        self.tensorboard_problem: str | None = None
        self._events = EventFile(tensorboard) if tensorboard is not None else None
        self._descriptor: int | None = None
        self._size = 0

    def write(self, step: int, values: Mapping[str, SupportsFloat]) -> None:
        """Append one line.

        Parameters
        ----------
        step : int
            Environment steps so far.
        values : mapping of str to float
            Numbers; NaN and infinities become ``null``, which every JSON reader understands.

        Raises
        ------
        UserError
            The disk is full, read-only or refuses. The lines before are whole.
        """
        numbers = {name: float(value) for name, value in values.items()}
        if numbers.keys() & {"step", "time"}:
            raise ValueError("the metrics 'step' and 'time' are the writer's own")
        now = time.time()
        finite = {name: number if math.isfinite(number) else None for name, number in numbers.items()}
        line = json.dumps({"step": int(step), "time": round(now, 3), **finite}).encode() + b"\n"
        try:
            self._append(line)
        except OSError as error:
            raise disk_error(f"cannot write metrics to {self.path}", error) from error
        if self._events is not None:
            try:
                self._events.write(step, now, numbers)
            except Exception as error:
                self._give_up_tensorboard(error)

    def offset(self) -> int:
        """Length of the file in bytes, all of it forced to the disk: what a checkpoint remembers.

        Raises
        ------
        UserError
            The disk refuses.
        """
        try:
            os.fsync(self._open())
        except OSError as error:
            raise disk_error(f"cannot write metrics to {self.path}", error) from error
        return self._size

    def truncate_to(self, offset: int) -> None:
        """Drop the lines behind an offset, and a torn last line; training resumes there and writes them anew.

        Raises
        ------
        UserError
            The disk refuses.
        """
        try:
            descriptor = self._open()
            content = self.path.read_bytes()[: max(offset, 0)]
            self._size = content.rfind(b"\n") + 1
            os.ftruncate(descriptor, self._size)
            os.fsync(descriptor)
        except OSError as error:
            raise disk_error(f"cannot write metrics to {self.path}", error) from error
        if self._events is not None:
            lines = content[: self._size].splitlines()
            last_step = int(json.loads(lines[-1])["step"]) if lines else -1
            self._events.forget_from(last_step + 1)

    def close(self) -> None:
        """Close the files; writing again opens them again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._events is not None:
            try:
                self._events.close()
            except Exception as error:
                self._give_up_tensorboard(error)

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            content = self.path.read_bytes()
            # A killed writer may have torn the last line.
            self._size = content.rfind(b"\n") + 1
            if self._size != len(content):
                os.ftruncate(self._descriptor, self._size)
        return self._descriptor

    def _append(self, line: bytes) -> None:
        descriptor = self._open()
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, self._size)
            raise
        self._size += len(line)

    def _give_up_tensorboard(self, error: Exception) -> None:
        self._events = None
        self.tensorboard_problem = f"TensorBoard files are no longer written: {error}"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of metrics; a torn last line, of a writer that is at work or was killed, is left out.

    Returns
    -------
    list of dict
        Empty where there is no file yet.

    Raises
    ------
    UserError
        A line in the middle is not JSON; the message numbers it.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise disk_error(f"cannot read {path}", error) from error
    records: list[dict[str, Any]] = []
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            records.append(json.loads(line))
        except ValueError:
            raise UserError(f"line {number} of {path} is damaged: delete that line to read the others") from None
    return records


def read_frame(path: Path) -> pandas.DataFrame:
    """Read a file of metrics as a table with a column for each name that occurs; NaN where a line lacks it."""
    import pandas  # pyright: ignore[reportMissingTypeStubs]

    # A column of nothing but null would otherwise be one of objects.
    records = [
        {name: math.nan if value is None else value for name, value in record.items()} for record in read_lines(path)
    ]
    return pandas.DataFrame(records or {"step": [], "time": []})
