"""TensorBoard event files through TensorBoard's own record writer, without torch and without a thread of its own.

TensorBoard's ready-made file writer hands records to a background thread that dies with a traceback on a full disk and
can block whoever waits for it. One record an iteration needs no thread.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class EventFile:
    """One event file in a folder, created with the first record; TensorBoard merges the files of a folder.

    Parameters
    ----------
    folder : Path
        Created when needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None
        self._first_step: int | None = None

    def write(self, step: int, wall_time: float, values: Mapping[str, float]) -> None:
        """Write scalars of one step. Whatever the disk or TensorBoard raises comes through."""
        events = importlib.import_module("tensorboard.compat.proto.event_pb2")
        summaries = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        if self._writer is None:
            self._open(events, wall_time)
        scalars = [summaries.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._record(events.Event(wall_time=wall_time, step=step, summary=summaries.Summary(value=scalars)))

    def forget_from(self, step: int) -> None:
        """Tell TensorBoard to drop what older files of the folder hold from a step on; training resumed before it."""
        self.close()
        self._first_step = step if self._folder.exists() else None

    def close(self) -> None:
        """Close the file; the next record opens another."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()

    def _open(self, events: Any, wall_time: float) -> None:
        records = importlib.import_module("tensorboard.summary.writer.record_writer")
        self._folder.mkdir(parents=True, exist_ok=True)
        # Files are merged in the order of their names, so a later one must sort behind: nanoseconds, not seconds.
        name = f"events.out.tfevents.{time.time_ns():020d}.{os.getpid()}"
        # Unbuffered: what was written must be visible at once, and must not fail later, on closing.
        self._writer = records.RecordWriter(open(self._folder / name, "xb", buffering=0))  # noqa: SIM115
        self._record(events.Event(wall_time=wall_time, file_version="brain.Event:2"))
        if self._first_step is not None:
            start = events.SessionLog(status=events.SessionLog.START)
            self._record(events.Event(wall_time=wall_time, step=self._first_step, session_log=start))
            self._first_step = None

    def _record(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())
