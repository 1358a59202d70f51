"""Closed loops of the compass walker from one gait to another, the same for every controller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rlstab.controllers.roa.walker.data import gait_states
from rlstab.envs.hybrid.walker_gaits import GAITS
from rlstab.envs.hybrid.walker_stride import LONGEST, PERIOD_S, Swung, swing

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

CLOSE = 0.01
"""Distance of q1 after an impact to that of the gait asked for (rad) at which it counts as reached."""
STEPS, STEPS_AFTER = 10, 5
"""Steps within which it must be reached, and those that are done after that."""


class Walking(Protocol):
    """A controller of many walkers."""

    def advance(self, x: FloatArray, goal: FloatArray, longest: NDArray[np.int64]) -> Swung:
        """Let walkers go on to the next impact, or to the next moment at which the controller decides anew.

        Parameters
        ----------
        x
            ``(n, 4)``: at the beginning of a step, or at such a moment.
        goal
            Gait angles that they shall reach ``(n,)``, rad.
        longest
            Control periods that each may take at most, ``(n,)``.
        """
        ...


class GaitPlanner(Protocol):
    """Chooses what gait is held, and for how long."""

    def plan(self, x: FloatArray, goal: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
        """Gait angles ``(n,)`` and control periods ``(n,)`` after which to plan again, at the next impact at latest."""
        ...


class PlannedGaits:
    """The CLF-QP in the gaits that a planner chooses at every impact, and where it asked to be asked again.

    Parameters
    ----------
    planner
        Who chooses.
    """

    def __init__(self, planner: GaitPlanner) -> None:
        self.planner = planner

    def advance(self, x: FloatArray, goal: FloatArray, longest: NDArray[np.int64]) -> Swung:
        """See `Walking.advance`."""
        gait, periods = self.planner.plan(x, goal)
        return swing(x, gait, np.minimum(periods, longest))


@dataclass(frozen=True)
class Starts:
    """Walkers, and the gaits that they shall reach."""

    x: FloatArray
    """``(n, 4)``."""
    source: FloatArray
    """``(n,)``: gait angle near which they begin, rad."""
    goal: FloatArray
    """``(n,)``: gait angle asked for, rad."""
    goal_q1: FloatArray
    """``(n,)``: ``q1`` after an impact in it, rad."""


@dataclass(frozen=True)
class Walked:
    """What became of walkers."""

    reached: BoolArray
    """``(n,)``: whether ``q1`` came within `CLOSE` of the goal's, after one of the first `STEPS` impacts."""
    first_step: BoolArray
    """``(n,)``: whether the first step was done upright."""
    lasting: BoolArray
    """``(n,)``: reached, and `STEPS_AFTER` more steps done, the last of them within `CLOSE` of the goal, too."""
    seconds: FloatArray
    """``(n,)``: until it was reached; NaN where it was not."""
    steps: FloatArray
    """``(n,)``: impacts until it was reached; NaN where it was not."""
    error: FloatArray
    """``(n,)``: root mean square difference (rad and rad/s) of the states after impacts to the goal's, up to reaching
    it or to the last impact; NaN where no step was done."""


def draw_starts(rng: np.random.Generator, count: int) -> Starts:
    """One goal: rows 2 to 8 of the table of gaits as sources, ``count`` starts of each, goal 0.13051651 rad.

    Errors are uniform within (0.01, 0.02, 0.1, 0.2), and q1 at least 0.01.
    """
    rows = np.repeat(np.arange(2, 9), count)
    goal = np.full(len(rows), 0.13051651)
    return Starts(_near(rng, rows), GAITS[rows, 0], goal, goal)


def draw_pairs(rng: np.random.Generator, count: int) -> Starts:
    """Many goals: 80 pairs of rows 2 to 12 as sources and rows 2 to 15 as goals, ``count`` starts of each.

    Of the pairs those are taken that lead from one half of the table to the other.
    """
    pairs = [
        (2 + source, 2 + goal)
        for source in range(11)
        for goal in range(14)
        if (source < 7 and goal > 5) or (source >= 7 and goal <= 5)
    ]
    source, goal = np.repeat(np.array(pairs), count, 0).T
    return Starts(_near(rng, source), GAITS[source, 0], GAITS[goal, 0], GAITS[goal, 1])


def walk(controller: Walking, starts: Starts, steps: int = STEPS, steps_after: int = STEPS_AFTER) -> Walked:
    """Let walkers go until they fall or have done their steps; a step that takes 2 s counts as a fall."""
    n = len(starts.x)
    x, going = starts.x.copy(), np.ones(n, bool)
    count, elapsed, since = np.zeros(n, int), np.zeros(n), np.zeros(n, np.int64)
    landings = np.full((steps + steps_after, n, 4), np.nan)
    seconds, at = np.full(n, np.nan), np.full(n, np.nan)
    ends, lasting = np.full(n, steps), np.zeros(n, bool)
    while going.any():
        rows = np.flatnonzero(going)
        done = controller.advance(x[rows], starts.goal[rows], LONGEST - since[rows])
        x[rows] = done.x
        elapsed[rows] += PERIOD_S * done.periods
        since[rows] += done.periods.astype(np.int64)
        landed = rows[done.struck & done.upright]
        landings[count[landed], landed] = x[landed]
        count[landed] += 1
        since[landed] = 0
        close = landed[np.abs(x[landed, 0] - starts.goal_q1[landed]) < CLOSE]
        first = np.isnan(seconds[close])
        lasting[close[~first & (count[close] == ends[close])]] = True
        close = close[first]
        seconds[close], at[close] = elapsed[close], count[close]
        ends[close] = count[close] + steps_after
        going[rows] = done.upright
        going &= (since < LONGEST) & (count < ends)
    reached = ~np.isnan(seconds)
    squares = ((landings[:steps] - gait_states(starts.goal)) ** 2).mean(2)
    counted = np.isfinite(squares) & (np.arange(1, steps + 1)[:, None] <= np.where(reached, at, steps))
    number = counted.sum(0)
    mean = np.where(counted, squares, 0.0).sum(0) / np.maximum(number, 1)
    return Walked(reached, count > 0, reached & lasting, seconds, at, np.where(number > 0, np.sqrt(mean), np.nan))


def _near(rng: np.random.Generator, rows: NDArray[np.int64]) -> FloatArray:
    x = GAITS[rows, 1:] + rng.uniform(-1.0, 1.0, (len(rows), 4)) * [0.01, 0.02, 0.1, 0.2]
    x[:, 0] = np.maximum(x[:, 0], 0.01)
    return x
