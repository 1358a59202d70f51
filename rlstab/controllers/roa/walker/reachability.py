"""The walker by a reachability table: the least time to the goal's gait, by torques of full size in either direction.

Nothing is asked of the gait on the way, and the torque is free: it shows what gaits and planners leave on the table, at
the price of one table a goal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlstab.controllers.baselines.hj import Grid, Move, ReachTable, solve_reach
from rlstab.controllers.roa.walker.data import gait_states
from rlstab.envs.hybrid.walker import TORQUE_LIMIT
from rlstab.envs.hybrid.walker_stride import LONGEST, PERIOD_S, Swung, swing
from rlstab.errors import UserError

FloatArray = NDArray[np.float64]

HELD = 5
"""Control periods for which a torque is held."""
TORQUES = (-TORQUE_LIMIT, 0.0, TORQUE_LIMIT)
LOW, HIGH = (-0.35, -0.8, -1.6, -3.0), (0.35, 0.8, 0.2, 4.0)
"""Limits of the grid (rad and rad/s)."""
NEVER_S = 6.0
"""Cost of not arriving, seconds."""
_ARRIVED = np.array([0.01, 0.02, 0.1, 0.2])


class ReachingWalker:
    """Follows the table to the goal's state after an impact, and the goal's gait from there on.

    Parameters
    ----------
    goal
        Gait angle, rad. The table is of this goal alone.
    points
        Of the grid, along q1, q2, q1d, q2d.
    """

    def __init__(self, goal: float, points: tuple[int, int, int, int] = (29, 41, 25, 36)) -> None:
        self.goal, self._arrival = goal, gait_states(np.array([goal]))
        self.table: ReachTable = solve_reach(
            Grid(LOW, HIGH, points), TORQUES, self._move, cap=NEVER_S, tolerance=1e-2, sweeps=150
        )

    def advance(self, x: FloatArray, goal: FloatArray, longest: NDArray[np.int64]) -> Swung:
        """See `rlstab.controllers.roa.walker.walk.Walking`.

        Raises
        ------
        UserError
            Another goal is asked for than that of the table.
        """
        if not np.allclose(goal, self.goal):
            raise UserError(f"the table leads to the gait of {self.goal:g} rad, not to {goal[0]:g}: make another")
        # A walker that has arrived stays in its gait to the step's end; one that is on its way decides anew.
        done = _hold(x, self.decide(x), np.minimum(HELD, longest))
        rows = np.flatnonzero(self._arrives(x))
        if len(rows):
            walked = swing(x[rows], goal[rows], longest[rows])
            for name in ("x", "struck", "upright", "periods"):
                getattr(done, name)[rows] = getattr(walked, name)
        return done

    def decide(self, x: FloatArray) -> FloatArray:
        """Torques ``(n,)`` (N m) for the next `HELD` control periods."""
        costs = np.stack([self._cost(self._move(x, np.array(torque))) for torque in TORQUES])
        return np.array(TORQUES)[costs.argmin(0)]

    def _cost(self, made: Move) -> FloatArray:
        later = np.where(made.arrived, 0.0, np.where(made.failed, NEVER_S, self.table.at(made.x)))
        return made.cost + later

    def _arrives(self, x: FloatArray) -> NDArray[np.bool_]:
        return np.asarray((np.abs(x - self._arrival) <= _ARRIVED).all(1))

    def _move(self, x: FloatArray, control: FloatArray) -> Move:
        done = _hold(x, np.full(len(x), float(control)), np.full(len(x), HELD))
        return Move(done.x, PERIOD_S * done.periods, done.struck & self._arrives(done.x), ~done.upright)


def _hold(x: FloatArray, torque: FloatArray, periods: NDArray[np.int64]) -> Swung:
    """Hold torques ``(n,)`` until a foot strikes."""
    return swing(x, torque, np.minimum(periods, LONGEST), lambda _, held: held)
