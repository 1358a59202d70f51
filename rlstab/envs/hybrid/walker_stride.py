"""The sampled compass walker, fast: one control period at a time for many walkers that differ in how far they get.

`rlstab.envs.hybrid.walker.Walker` is the definition; this is the same map for the walker alone, without locating events
by iteration (its guard is linear between two samples) and without carrying on those that have fallen or landed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rlstab.envs.hybrid.walker import accelerations, allowed_to_strike, impact, is_valid
from rlstab.envs.hybrid.walker_gaits import gait_torque
from rlstab.envs.physics.interface import BoolArray, FloatArray
from rlstab.errors import UserError

PERIOD_S = 0.01
"""Seconds for which a torque is held."""
Law = Callable[[FloatArray, FloatArray], FloatArray]
LONGEST = 200
"""Control periods within which a step must be done: 2 s."""
_SUBSTEP_S = 0.005
_ON_GROUND = 1e-9


@dataclass(frozen=True)
class Swung:
    """Where walkers are after part of a step, or all of it."""

    x: FloatArray
    """``(n, 4)``: after the impact where a foot struck, where it fell for one that is not upright."""
    struck: BoolArray
    """``(n,)``: whether a step was done."""
    upright: BoolArray
    """``(n,)``: whether it stayed upright all the time, just before the impact included."""
    periods: FloatArray
    """``(n,)``: control periods gone by."""


def advance_period(x: FloatArray, torque: FloatArray) -> tuple[FloatArray, BoolArray, BoolArray]:
    """One control period of the sampled walker.

    Parameters
    ----------
    x
        ``(n, 4)``, see `rlstab.envs.hybrid.walker.STATES`.
    torque
        ``(n,)`` N m.

    Returns
    -------
    x, struck, upright
        ``(n, 4)`` after an impact where there was one; ``(n,)`` bool each, upright being both before and after it.
    """
    after = x
    for _ in range(2):
        drift, column = accelerations(after)
        rates = np.concatenate([after[:, 2:4], drift + column * torque[:, None]], 1)
        after = after + _SUBSTEP_S * rates
    height, lower = 2.0 * x[:, 0] + x[:, 1], 2.0 * after[:, 0] + after[:, 1]
    falls = ((height > _ON_GROUND) & (lower <= 0.0)) | ((np.abs(height) <= _ON_GROUND) & (lower < 0.0))
    upright, struck = np.asarray(is_valid(after)), np.zeros(len(x), bool)
    crossing = np.flatnonzero(falls)
    if len(crossing):
        drop = height[crossing] - lower[crossing]
        share = np.where(drop > 0.0, height[crossing] / np.where(drop > 0.0, drop, 1.0), 0.0)
        met = x[crossing] + share[:, None] * (after[crossing] - x[crossing])
        may = np.asarray(allowed_to_strike(met))
        struck[crossing[may]] = True
        if may.any():
            after = after.copy()
            after[struck] = impact(met[may])
            upright[struck] = np.asarray(is_valid(met[may])) & np.asarray(is_valid(after[struck]))
    return after, struck, upright


def swing(x: FloatArray, gait: ArrayLike, longest: ArrayLike = LONGEST, law: Law = gait_torque) -> Swung:
    """Let walkers go until a foot strikes, they fall, or time is up.

    Parameters
    ----------
    x
        ``(n, 4)``.
    gait
        Gait angle of each ``(n,)``, or one for all, rad.
    longest
        Control periods that each may take, ``(n,)`` or one for all.
    law
        From states and gait angles to torques ``(n,)``, N m.

    Raises
    ------
    UserError
        A state is not four finite numbers.

    Examples
    --------
    >>> from rlstab.envs.hybrid.walker_gaits import GAITS
    >>> done = swing(GAITS[7:8, 1:], 0.13)
    >>> bool(done.struck[0]), int(done.periods[0])
    (True, 78)
    """
    x = np.array(x, np.float64)
    if x.ndim != 2 or x.shape[1] != 4 or not np.isfinite(x).all():
        raise UserError(f"walkers need states (n, 4) of finite numbers, got shape {x.shape}")
    n = len(x)
    angle, left = np.broadcast_to(np.asarray(gait, np.float64), n), np.broadcast_to(np.asarray(longest), n)
    result = Swung(x, np.zeros(n, bool), np.asarray(is_valid(x)).copy(), np.zeros(n))
    going = np.flatnonzero(result.upright & (left > 0))
    here = x[going]
    for period in range(1, int(np.max(left, initial=0)) + 1):
        if not len(going):
            break
        here, struck, upright = advance_period(here, law(here, angle[going]))
        stops = struck | ~upright | (left[going] <= period)
        if not stops.any():
            continue
        ended = going[stops]
        x[ended], result.struck[ended], result.upright[ended] = here[stops], struck[stops], upright[stops]
        result.periods[ended] = period
        going, here = going[~stops], here[~stops]
    return result


def steps(x: FloatArray, gait: ArrayLike, count: int) -> tuple[FloatArray, BoolArray]:
    """Let walkers do whole steps in one gait.

    Parameters
    ----------
    x
        ``(n, 4)``, anywhere in a step.
    gait
        ``(n,)`` or one for all, rad.
    count
        Steps.

    Returns
    -------
    states, walking
        ``(count + 1, n, 4)``: where each step begins, NaN once one was not done upright within 2 s; ``(n,)`` bool:
        whether all were.
    """
    n = len(x)
    angle = np.broadcast_to(np.asarray(gait, np.float64), n)
    states, walking = np.full((count + 1, n, 4), np.nan), np.ones(n, bool)
    states[0] = x
    for index in range(count):
        going = np.flatnonzero(walking)
        done = swing(states[index, going], angle[going])
        walking[going] = done.struck & done.upright
        states[index + 1, walking] = done.x[walking[going]]
    return states, walking
