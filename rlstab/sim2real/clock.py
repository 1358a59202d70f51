"""Time, as something handed in: the same loop runs on the wall clock, in a test, or as fast as it can."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

SPIN = 1e-3
"""Seconds before a deadline at which sleeping stops: what an ordinary kernel needs to wake a process."""


class Clock(Protocol):
    """A monotonic clock."""

    def now(self) -> float:
        """Seconds since some fixed moment."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after about ``seconds``, possibly later."""
        ...


class WallClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Seconds, with sub-microsecond resolution."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        """Give the processor away for ``seconds``."""
        time.sleep(seconds)


class Pacer:
    """Deadlines ``period`` seconds apart that do not drift, because each is counted from the one before.

    Being late by less than a period shortens the next wait, which keeps the rate. Being late by more is an overrun: the
    missed deadlines are dropped and counting begins anew, so that commands never come in a burst.
    """

    def __init__(self, clock: Clock, period: float) -> None:
        self._clock = clock
        self._period = period
        self._next: float | None = None

    def wait(self, prepare: Callable[[], None] | None = None) -> bool:
        """Wait for the next deadline (the first is now); return whether it was missed by more than a period.

        ``prepare`` is called after having slept, about `SPIN` before the deadline, if at least half of that is left. It
        should take less than this half.
        """
        now = self._clock.now()
        if self._next is None:
            self._next = now
        late = now - self._next
        if late > self._period:
            self._next = now + self._period
            return True
        if -late > SPIN:
            self._clock.sleep(-late - SPIN)
            if prepare is not None and self._next - self._clock.now() > SPIN / 2:
                prepare()
        while self._clock.now() < self._next:
            pass
        self._next += self._period
        return False
