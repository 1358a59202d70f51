"""Watches what the stability theorem of switched references assumes, along one trajectory.

The theorem (docs/certificates.md, T1 to T3) assumes that within a mode ``V`` falls by a share ``alpha`` a step inside
the level set (A2), that every switch lands inside the next mode's set (A3), and that modes last (A4). The monitor says
which of A2 and A3 failed first, and whether A4 held. What it finds about one trajectory is empirical.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from rlstab.errors import UserError


@dataclass(frozen=True)
class ModeRecord:
    """What happened in one mode."""

    entered: float
    """``V`` when it began, after the reset."""
    level: float
    """``rho`` of its configuration."""
    left: float
    """``V`` when it ended, before the reset."""
    dwell: int
    """Steps spent in it."""
    first_rise: int | None
    """First step at which ``V`` did not fall as asked, counted from the mode's beginning; None where it always did."""
    left_domain: int | None
    """First step outside the domain of ``V``; None where it stayed inside."""

    @property
    def inside(self) -> bool:
        """Whether the mode was entered inside its level set."""
        return self.entered <= self.level < math.inf


@dataclass(frozen=True)
class MonitorReport:
    """What `StabilityMonitor.finish` returns."""

    modes: tuple[ModeRecord, ...]
    alpha: float
    """Share of ``V`` that a step should take away."""

    @property
    def first_failure(self) -> str | None:
        """Which of A2 and A3, which T1 rests on, failed first, and where, in words; None where both held."""
        for index, mode in enumerate(self.modes):
            if not mode.inside:
                return f"A3 failed on entering mode {index}: V = {mode.entered:.4g} is above rho = {mode.level:.4g}"
            domain = math.inf if mode.left_domain is None else mode.left_domain
            rise = math.inf if mode.first_rise is None else mode.first_rise
            if domain <= rise and domain < math.inf:
                return f"A2 failed in mode {index}: the state left the domain of V at step {mode.left_domain}"
            if rise < math.inf:
                return f"A2 failed in mode {index}: V did not fall by {self.alpha:g} at step {mode.first_rise}"
        return None

    @property
    def jump(self) -> float:
        """``M``: largest ratio of ``V`` after a switch to ``V`` before it; NaN without a switch, infinite from zero."""
        pairs = list(itertools.pairwise(self.modes))
        if not pairs:
            return math.nan
        return max(new.entered / old.left if old.left > 0.0 else math.inf for old, new in pairs)

    @property
    def needed_dwell(self) -> float:
        """Steps a mode must last for ``M (1 - alpha)^dwell < 1``, were there no jump of references (T3, ``d = 0``)."""
        return max(0.0, math.log(self.jump) / -math.log1p(-self.alpha)) if self.jump > 0.0 else 0.0

    @property
    def dwell_failure(self) -> str | None:
        """How A4 failed, which T3 rests on beside A2 and A3, in words; None where modes lasted, or nothing switched."""
        if len(self.modes) < 2:
            return None
        # The last mode is not over.
        shortest = min(mode.dwell for mode in self.modes[:-1])
        if shortest > self.needed_dwell or self.jump < 1.0:
            return None
        return f"A4 failed: a mode lasted {shortest} steps, and more than {self.needed_dwell:.4g} are needed"

    def summary(self) -> dict[str, object]:
        """Key figures, for a table."""
        return {
            "modes": len(self.modes),
            "entered inside": sum(mode.inside for mode in self.modes),
            "V always fell": sum(mode.first_rise is None for mode in self.modes),
            "shortest dwell": min((mode.dwell for mode in self.modes), default=0),
            "largest jump of V": self.jump,
            "first failure": self.first_failure,
            "dwell": self.dwell_failure,
            "grade": "empirical",
        }


class StabilityMonitor:
    """Follows one trajectory: `enter` at every switch, `step` after every step, `finish` at the end.

    Parameters
    ----------
    alpha
        Share of ``V`` that a step should take away, between 0 and 1.
    slack
        Rise that is overlooked, in units of ``V``: near the reference rounding and sampling keep ``V`` from falling.

    Raises
    ------
    UserError
        A parameter is out of range, a value is negative or NaN, or a step comes before the first mode.
    """

    def __init__(self, alpha: float, slack: float = 0.0) -> None:
        if not 0.0 < alpha < 1.0 or not slack >= 0.0:
            raise UserError(f"alpha must be between 0 and 1 and slack not negative, got {alpha} and {slack}")
        self._alpha, self._slack = alpha, slack
        self._done: list[ModeRecord] = []
        self._values: list[float] = []
        self._level = math.nan
        self._left_domain: int | None = None

    def enter(self, value: float, level: float) -> None:
        """A mode begins, with ``V`` after the reset and the level of its configuration."""
        self._close()
        self._values, self._level, self._left_domain = [_checked(value)], _checked(level), None

    def step(self, value: float, *, in_domain: bool = True) -> None:
        """A step was taken within the mode; its ``V``, and whether the state is where ``V`` is defined."""
        if not self._values:
            raise UserError("the monitor was told of a step before any mode began: call enter first")
        self._values.append(_checked(value))
        if not in_domain and self._left_domain is None:
            self._left_domain = len(self._values) - 1

    def finish(self) -> MonitorReport:
        """Everything up to now, the present mode included; it can be gone on with."""
        present = (*self._done, self._record()) if self._values else tuple(self._done)
        return MonitorReport(present, self._alpha)

    def _close(self) -> None:
        if self._values:
            self._done.append(self._record())

    def _record(self) -> ModeRecord:
        values = self._values
        rises = (
            index + 1
            for index, (before, after) in enumerate(itertools.pairwise(values))
            if not after <= (1.0 - self._alpha) * before + self._slack or after == math.inf
        )
        return ModeRecord(
            entered=values[0],
            level=self._level,
            left=values[-1],
            dwell=len(values) - 1,
            first_rise=next(rises, None),
            left_domain=self._left_domain,
        )


def _checked(value: float) -> float:
    if not value >= 0.0:
        raise UserError(f"a Lyapunov function and its level are not negative, got {value}")
    return float(value)
