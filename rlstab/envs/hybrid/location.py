"""At which share of a step a guard falls to zero."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from rlstab.envs.hybrid.arrays import Array, any_of, carries_gradient, choose, detached, namespace, taken

if TYPE_CHECKING:
    from rlstab.envs.hybrid.system import HybridState, HybridSystem

_BISECTIONS = 30
_ROUNDS = 60
_PROBE = 1e-4


def first_crossing(
    system: HybridSystem, before: HybridState, after: HybridState, control: Array, duration: Array
) -> tuple[Array, Array, Array]:
    """Find the first event of each world between two ends of a step.

    A guard that is zero already when the step begins (an event has just put the world there) must rise before it can
    fall; one that falls at once has its event at once, so that a reset which does not leave its guard is counted until
    the limit. What begins beyond zero waits, or has its event at once (`HybridSystem.fires_beyond`).

    Parameters
    ----------
    before, after
        Ends of the step of ``duration (n,)`` seconds under ``control``.

    Returns
    -------
    share, guard, fired
        ``(n,)`` each: share of the step at which it happens, in [0, 1], which guard, and whether there is one. The
        share carries the gradient of the moment with respect to state, control and configuration.
    """
    xp = namespace(before.x)
    first, last = detached(system.guard(before)), detached(system.guard(after))
    waiting = (duration > 0.0)[:, None]
    tolerance = system.guard_tolerance
    falls = waiting & (((first > tolerance) & (last <= 0.0)) | ((abs(first) <= tolerance) & (last < 0.0)))
    if system.fires_beyond:
        falls = falls | (waiting & (first < -tolerance))
    share = xp.full_like(first, np.inf)
    if not any_of(falls):
        none = xp.zeros_like(before.mode)
        return 0.0 * detached(duration), none, none != 0
    plain, end = _cut_off(before), _cut_off(after)
    held, length = detached(control), detached(duration)
    for index in range(first.shape[1]):
        column = falls[:, index]
        if not any_of(column):
            continue
        found = _locate(system, plain, end, held, length, index, column)
        permitted = system.allowed(system.within(plain, end, held, length, found))[:, index]
        share[:, index] = xp.where(column & permitted, found, share[:, index])
    guard = share.argmin(-1)
    best = taken(share, guard)
    fired = best < np.inf
    best = xp.where(fired, best, 0.0 * length)
    if carries_gradient(before.x, before.configuration, control, duration):
        best = _with_gradient(system, before, after, control, duration, best, guard, fired)
    return best, guard, fired


def _locate(
    system: HybridSystem,
    before: HybridState,
    after: HybridState,
    control: Array,
    duration: Array,
    index: int,
    wanted: Array,
) -> Array:
    """Root of one guard along the step where ``wanted``, by the Illinois variant of the secant method."""
    xp = namespace(before.x)

    def value(share: Array) -> Array:
        return system.guard(system.within(before, after, control, duration, share))[:, index]

    low, high = 0.0 * duration, 0.0 * duration + 1.0
    at_low, at_high = value(low), value(high)
    beyond = wanted & (at_low < -system.guard_tolerance)
    stuck = wanted & ~beyond & (at_low <= system.guard_tolerance)
    for power in range(1, _BISECTIONS + 1):
        if not any_of(stuck):
            break
        trial = xp.where(stuck, 0.5**power + 0.0 * low, low)
        at_trial = value(trial)
        rises = stuck & (at_trial > 0.0)
        low, at_low = xp.where(rises, trial, low), xp.where(rises, at_trial, at_low)
        # What lies below zero at the trial brackets the root from above.
        under = stuck & ~rises
        high, at_high = xp.where(under, trial, high), xp.where(under, at_trial, at_high)
        stuck = under
    at_once = stuck | beyond
    open_ = wanted & ~at_once
    side = 0.0 * duration
    for _ in range(_ROUNDS):
        if not any_of(open_):
            break
        gap = at_low - at_high
        trial = low + (high - low) * at_low / xp.where(gap == 0.0, 1.0, gap)
        at_trial = value(trial)
        above = at_trial > 0.0
        at_high = xp.where(open_ & above & (side > 0.0), 0.5 * at_high, at_high)
        at_low = xp.where(open_ & ~above & (side < 0.0), 0.5 * at_low, at_low)
        side = xp.where(above, 1.0 + 0.0 * side, -1.0 + 0.0 * side)
        low, at_low = xp.where(open_ & above, trial, low), xp.where(open_ & above, at_trial, at_low)
        high, at_high = xp.where(open_ & ~above, trial, high), xp.where(open_ & ~above, at_trial, at_high)
        open_ = open_ & (at_trial != 0.0) & (high - low > 4.0 * np.finfo(np.float64).eps)
    return xp.where(at_once, 0.0 * high, high)


def _with_gradient(
    system: HybridSystem,
    before: HybridState,
    after: HybridState,
    control: Array,
    duration: Array,
    share: Array,
    guard: Array,
    fired: Array,
) -> Array:
    """The same share, with the derivative that the implicit function theorem gives it."""
    xp = namespace(before.x)
    plain, end, held, length = _cut_off(before), _cut_off(after), detached(control), detached(duration)

    def value(at: Array) -> Array:
        return system.guard_value(system.within(plain, end, held, length, at), guard)

    slope = (value(share + _PROBE) - value(share - _PROBE)) / (2.0 * _PROBE)
    residual = system.guard_value(system.within(before, after, control, duration, share), guard)
    crosses = fired & (abs(slope) > 0.0)
    correction = residual / xp.where(crosses, slope, 1.0)
    return share - choose(crosses, correction - detached(correction), 0.0 * correction)


def _cut_off(state: HybridState) -> HybridState:
    return replace(state, x=detached(state.x), configuration=detached(state.configuration))
