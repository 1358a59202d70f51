"""Ctrl-C while a robot moves: a request first, an order the second time, and never in the way of closing the robot."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType


class Interrupts:
    """Take SIGINT over inside a ``with`` block.

    The first only calls ``ask``. The second raises KeyboardInterrupt wherever the program is, unless `shield` was
    called before. Any further one does nothing: what the second set off (closing the robot) is not to be cut short.
    Outside the main thread, where Python delivers no signals, and where the process was told to ignore SIGINT
    (``nohup``), nothing is taken over.

    Parameters
    ----------
    ask
        Called by the first; runs between two bytecodes of the main thread, so it should only set something.
    """

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._count = 0
        self._shielded = False
        self._restore: Callable[[], object] = lambda: None

    def shield(self) -> None:
        """Let no SIGINT raise from now on."""
        self._shielded = True

    def __enter__(self) -> Interrupts:
        previous = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and previous is not signal.SIG_IGN:
            # None stands for a handler that was not installed from Python and cannot be given back.
            again = signal.SIG_DFL if previous is None else previous
            self._restore = lambda: signal.signal(signal.SIGINT, again)
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self._count == 1:
            self._ask()
        elif self._count == 2 and not self._shielded:
            raise KeyboardInterrupt
