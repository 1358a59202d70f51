"""Hamilton-Jacobi reachability on a grid: least cost to reach a set, by value iteration on a sampled system.

For systems of up to four dimensions. The dynamics are those of the sampled system itself, resets included, so that the
table is the value of what is stepped and not of a continuous model of it; what the grid blurs is the table's only
error, and it has no sign: a table is no proof.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlstab.errors import UserError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_CHUNK = 200_000
"""States for which the next ones are computed at once."""


@dataclass(frozen=True)
class Move:
    """What one decision leads to, from ``n`` states."""

    x: FloatArray
    """``(n, d)``: next states."""
    cost: FloatArray
    """``(n,)``, not negative: for a least time, the seconds gone by."""
    arrived: BoolArray
    """``(n,)``: the set was reached; nothing is paid from there on."""
    failed: BoolArray
    """``(n,)``: the set can no longer be reached, whatever is done."""


@dataclass(frozen=True)
class Grid:
    """Equal distances along each axis.

    Raises
    ------
    UserError
        There are more than four axes or none, a range is empty, or an axis has fewer than two points.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    points: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.points) <= 4 or len(self.low) != len(self.points) or len(self.high) != len(self.points):
            raise UserError(f"a reachability grid has 1 to 4 axes, each with its limits, got {self}")
        if min(self.points) < 2 or not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise UserError(f"each axis of a reachability grid needs two points and low < high, got {self}")

    def states(self) -> FloatArray:
        """All grid points ``(n, d)``, the last axis fastest."""
        axes = [np.linspace(*limits) for limits in zip(self.low, self.high, self.points, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))

    def places(self, x: FloatArray) -> tuple[FloatArray, BoolArray]:
        """States in units of the grid ``(n, d)``, cut off at its limits, and which are inside ``(n,)``."""
        low, high = np.array(self.low), np.array(self.high)
        share = (x - low) / (high - low)
        inside = np.asarray(((share >= 0.0) & (share <= 1.0)).all(1))
        return share.clip(0.0, 1.0) * (np.array(self.points) - 1.0), inside


@dataclass(frozen=True)
class ReachTable:
    """Least cost to reach a set from the points of a grid."""

    grid: Grid
    values: NDArray[np.float32]
    """Of the shape of the grid; `cap` where the set is not reached."""
    cap: float
    sweeps: int
    """Iterations that were made."""
    change: float
    """Largest change in the last one."""

    def at(self, x: FloatArray) -> FloatArray:
        """Least cost ``(n,)`` from states ``(n, d)``, linear between grid points; `cap` outside the grid."""
        places, inside = self.grid.places(x)
        return np.where(inside, _interpolate(self.values, places.astype(np.float32)), self.cap)


def solve_reach(
    grid: Grid,
    controls: Sequence[ArrayLike],
    move: Callable[[FloatArray, FloatArray], Move],
    *,
    cap: float,
    sweeps: int = 200,
    tolerance: float = 1e-3,
) -> ReachTable:
    """Iterate ``T(x) = min_u cost(x, u) + T(next(x, u))`` from ``cap`` everywhere until it stays.

    Parameters
    ----------
    grid
        Where; outside it the set counts as out of reach.
    controls
        Choices of one decision, each a number or a vector.
    move
        From states ``(n, d)`` and a control to what comes of it.
    cap
        Cost of never arriving: larger than any that matters.
    sweeps, tolerance
        Most iterations, and the largest change at which it ends.

    Raises
    ------
    UserError
        There is no control, or the cap is not positive.
    """
    if not len(controls) or not 0.0 < cap < np.inf:
        raise UserError("reachability needs at least one control and a positive finite cap")
    states = grid.states()
    n, size = len(states), len(grid.points)
    places = np.empty((len(controls), n, size), np.float32)
    costs = np.empty((len(controls), n), np.float32)
    # Costs of moves that end in the set, and of those from which nothing follows, do not depend on the table.
    final = np.empty((len(controls), n), bool)
    for index, control in enumerate(controls):
        for begin in range(0, n, _CHUNK):
            rows = slice(begin, begin + _CHUNK)
            made = move(states[rows], np.asarray(control, np.float64))
            where, inside = grid.places(made.x)
            lost = ~made.arrived & (made.failed | ~inside)
            places[index, rows], final[index, rows] = np.nan_to_num(where), made.arrived | lost
            costs[index, rows] = np.where(lost, cap, made.cost)
    values = np.full(n, cap, np.float32)
    change, sweep = np.inf, 0
    while sweep < sweeps and change > tolerance:
        table = values.reshape(grid.points)
        best = np.full(n, cap, np.float32)
        for index in range(len(controls)):
            open_ = np.flatnonzero(~final[index])
            total = costs[index].copy()
            total[open_] += _interpolate(table, places[index, open_])
            best = np.minimum(best, total)
        change, sweep = float(np.abs(best - values).max()), sweep + 1
        values = best
    return ReachTable(grid, values.reshape(grid.points), cap, sweep, change)


def _interpolate(table: NDArray[np.float32], places: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multilinear, at places in units of the grid ``(n, d)``."""
    points = np.array(table.shape)
    low = np.minimum(places.astype(np.int64), points - 2)
    part = places - low
    strides = np.cumprod(np.append(1, points[:0:-1]))[::-1]
    base, flat = low @ strides, table.reshape(-1)
    result = np.zeros(len(places), np.float32)
    for corner in itertools.product((0, 1), repeat=len(points)):
        weight = np.ones(len(places), np.float32)
        for axis, up in enumerate(corner):
            weight *= part[:, axis] if up else 1.0 - part[:, axis]
        result += weight * flat[base + int(np.dot(corner, strides))]
    return result
