"""Progress of a training on stderr: a live bar on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from rlstab.cli.console import err

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from rlstab.learning.training import Progress

_RETURN = "rollout/return_mean"
_SECONDS_BETWEEN_LINES = 5.0


class ProgressView:
    """Shows each `Progress` it is called with; use it as a context and as ``on_progress``."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._line_due = 0.0

    def __enter__(self) -> ProgressView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Show how far training is."""
        if self._bar is None and sys.stderr.isatty():
            # Not before: lines that are printed meanwhile would go through the bar.
            self._start(progress.total_steps)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=progress.step, told=describe(progress))
        elif time.monotonic() >= self._line_due or progress.step >= progress.total_steps:
            print(f"step {progress.step:,}/{progress.total_steps:,}  {describe(progress)}", file=sys.stderr, flush=True)
            self._line_due = time.monotonic() + _SECONDS_BETWEEN_LINES

    def _start(self, total_steps: int) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[told]}"),
        )
        self._bar = Progress(*columns, console=err(), transient=True)
        self._task = self._bar.add_task("training", total=total_steps, told="")
        self._bar.start()


def describe(progress: Progress) -> str:
    """Rate, return so far and time left, in one line."""
    parts = [f"{progress.steps_per_second:,.0f} steps/s"]
    if _RETURN in progress.metrics:
        parts.append(f"return {progress.metrics[_RETURN]:,.1f}")
    parts.append(f"{clock(progress.remaining_s)} left")
    return "  ".join(parts)


def clock(seconds: float) -> str:
    """Duration as minutes and seconds, with hours where there are any.

    Examples
    --------
    >>> clock(75), clock(3661)
    ('1:15', '1:01:01')
    """
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
