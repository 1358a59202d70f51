"""The stance of `rlstab.envs.hybrid.pogobot` in machine code: the same steps and events, one world after another.

The general integrator takes all worlds together, array by array, and seconds for a thousand hops; learning and planning
need hundreds of thousands of them. What holds both together is a test that compares them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rlstab.envs.hybrid.corridor import MOST_SEGMENTS, PARTS

GRAVITY, LEG, STIFFNESS, MASS = 10.0, 1.0, 32000.0, 80.0
"""m/s^2, m, N/m, kg; those of `Pogobot`."""
COMPRESSION, EXTENSION, UP, FALLEN = 1, 2, 3, 5
"""Modes of `Pogobot`; compiled code takes them as constants."""
_TOLERANCE = 1e-9
_ROUNDS = 60


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile, and keep the machine code for the next process where a folder can be written to."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # Neither this package's folder nor the user's cache can be written.
        return njit(nogil=True)(function)


@_compiled
def _moved(body: Any, rate: Any, h: float) -> Any:
    return body[0] + h * rate[0], body[1] + h * rate[1], body[2] + h * rate[2], body[3] + h * rate[3]


@_compiled
def _rate(body: Any, foot: Any, force: float) -> Any:
    x, y = body[0] - foot[0], body[2] - foot[1]
    length = math.sqrt(x * x + y * y)
    push = (force + STIFFNESS * (LEG - length)) / (MASS * length)
    return body[1], push * x, body[3], push * y - GRAVITY


@_compiled
def _step(body: Any, foot: Any, force: float, h: float) -> Any:
    """Body (x, xdot, y, ydot) after a Runge-Kutta step of ``h`` seconds."""
    a = _rate(body, foot, force)
    b = _rate(_moved(body, a, 0.5 * h), foot, force)
    c = _rate(_moved(body, b, 0.5 * h), foot, force)
    d = _rate(_moved(body, c, h), foot, force)
    return _moved(_moved(_moved(_moved(body, a, h / 6.0), b, h / 3.0), c, h / 3.0), d, h / 6.0)


@_compiled
def _guard(body: Any, foot: Any, mode: int, room: bool, corridor: Any) -> float:
    """What must stay positive: the room above and below the body, or else what ends the phase."""
    if not room:
        return -body[3] if mode == COMPRESSION else LEG - math.hypot(body[0] - foot[0], body[2] - foot[1])
    end, segment = 0.0, 0
    for index in range(MOST_SEGMENTS - 1):
        end += corridor[PARTS * index]
        segment += body[0] >= end
    return min(body[2] - corridor[PARTS * segment + 1], corridor[PARTS * segment + 2] - body[2])


@_compiled
def _share(body: Any, after: Any, foot: Any, force: float, h: float, mode: int, room: bool, corridor: Any) -> float:
    """Share of the step at which a guard falls to zero, infinite where it does not; Illinois' method."""
    at_low = _guard(body, foot, mode, room, corridor)
    at_high = _guard(after, foot, mode, room, corridor)
    if at_low < -_TOLERANCE or (at_low <= _TOLERANCE and at_high < 0.0):
        return 0.0
    if at_high > 0.0:
        return math.inf
    low, high, side = 0.0, 1.0, 0
    for _ in range(_ROUNDS):
        trial = low + (high - low) * at_low / (at_low - at_high)
        at_trial = _guard(_step(body, foot, force, trial * h), foot, mode, room, corridor)
        if at_trial > 0.0:
            low, at_low = trial, at_trial
            at_high = 0.5 * at_high if side > 0 else at_high
            side = 1
        else:
            high, at_high = trial, at_trial
            at_low = 0.5 * at_low if side < 0 else at_low
            side = -1
        if at_trial == 0.0 or high - low < 1e-15:
            break
    return high


@_compiled
def _stand(body: Any, foot: Any, force: float, corridor: Any, limit: float, step_s: float) -> Any:
    mode, elapsed, shortest = COMPRESSION, 0.0, LEG
    for _ in range(round(limit / step_s)):
        left = step_s
        while left > 0.0:
            pushing = force if mode == COMPRESSION else 0.0
            after = _step(body, foot, pushing, left)
            ends = _share(body, after, foot, pushing, left, mode, False, corridor)
            hits = _share(body, after, foot, pushing, left, mode, True, corridor)
            share = min(ends, hits)
            if share == math.inf:
                body, elapsed, left = after, elapsed + left, 0.0
                continue
            body = _step(body, foot, pushing, share * left)
            elapsed, left = elapsed + share * left, left - share * left
            if hits < ends:
                return body, FALLEN, elapsed, shortest
            if mode == EXTENSION:
                return body, UP if body[3] > _TOLERANCE else FALLEN, elapsed, shortest
            shortest, mode = math.hypot(body[0] - foot[0], body[2] - foot[1]), EXTENSION
    return body, mode, elapsed, shortest


@_compiled
def _stand_all(x: Any, mode: Any, force: Any, corridor: Any, limit: float, step_s: float) -> Any:
    after, modes = x.copy(), mode.copy()
    elapsed, shortest = np.zeros(len(x)), np.full(len(x), LEG)
    for i in range(len(x)):
        if mode[i] != COMPRESSION:
            continue
        body, foot = (x[i, 0], x[i, 1], x[i, 2], x[i, 3]), (x[i, 4], x[i, 5])
        body, modes[i], elapsed[i], shortest[i] = _stand(body, foot, force[i], corridor[i], limit, step_s)
        for part in range(4):
            after[i, part] = body[part]
    return after, modes, elapsed, shortest


def stand(
    x: NDArray[np.float64],
    mode: NDArray[np.int64],
    force: NDArray[np.float64],
    configuration: NDArray[np.float64],
    limit_s: float,
    step_s: float,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Stand from touchdown to lift-off.

    Parameters
    ----------
    x, mode
        States ``(n, 6)`` and modes ``(n,)`` at touchdown; worlds that are not in compression stay as they are.
    force
        ``(n,)`` N, in compression.
    configuration
        ``(n, 20)``, see `Corridor`.
    limit_s
        Longest stance, seconds.
    step_s
        Step of time, seconds.

    Returns
    -------
    x, mode
        At lift-off, where the body met floor or ceiling, or at the time limit.
    elapsed
        ``(n,)`` seconds.
    shortest
        ``(n,)`` m: length of the leg at mid-stance.
    """
    parts = (np.ascontiguousarray(part, np.float64) for part in (x, force, configuration))
    state, pushes, corridors = parts
    return _stand_all(state, np.ascontiguousarray(mode, np.int64), pushes, corridors, limit_s, step_s)
