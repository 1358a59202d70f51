"""Signals that end training politely: the first asks, the second insists."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Whether somebody asked training to stop, by a signal or by an event.

    Inside the ``with`` block the first SIGINT, SIGTERM or SIGHUP only sets `requested`; the second raises
    KeyboardInterrupt wherever the program is. Outside the main thread, where Python delivers no signals, only the event
    counts. Signals the process was told to ignore (``nohup``) stay ignored.

    Parameters
    ----------
    stop : threading.Event, optional
        Set by whoever wants the training to stop.
    """

    def __init__(self, stop: threading.Event | None = None) -> None:
        self._stop = stop
        self._received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | None] = {}

    @property
    def requested(self) -> bool:
        """Whether to stop after the unit of work at hand."""
        return self._received is not None or (self._stop is not None and self._stop.is_set())

    @property
    def reason(self) -> str:
        """What asked."""
        if self._received is signal.SIGINT:
            return "Ctrl-C"
        return self._received.name if self._received is not None else "asked to stop"

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                previous = signal.getsignal(number)
                if previous is not signal.SIG_IGN:
                    self._previous[number] = previous
                    signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            # None stands for a handler that was not installed from Python and cannot be given back.
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            raise KeyboardInterrupt
        self._received = signal.Signals(number)
