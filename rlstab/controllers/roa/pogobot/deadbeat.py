"""Deadbeat hopping: the control whose hop, exactly computed, ends nearest to the reference; needs no networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlstab.controllers.roa.pogobot.domain import take_hops
from rlstab.envs.hybrid.corridor import MOST_SEGMENTS, PARTS, borders, segment_at, target_height

FloatArray = NDArray[np.float64]
LIMITS = np.array([0.5, 5000.0])
"""rad and N."""
BAND_FROM = 2.5
"""m before a border from which the height to aim at is one with which the border can be passed."""
_FOOT_ROOM, _HEAD_ROOM = 1.1, 0.1
"""m above the higher floor and below the lower ceiling of what can be passed; the corridors' generator's."""
_ITERATIONS = 12
_PROBE = np.array([1e-4, 1.0])
_SHARES = (1.0, 0.5, 0.2, 0.05)


def solve_deadbeat(apices: FloatArray, references: FloatArray, limits: FloatArray = LIMITS) -> FloatArray:
    """Controls ``(n, 2)`` within ``limits`` that bring the next apex nearest to the reference, by Gauss and Newton.

    Parameters
    ----------
    apices, references
        ``(n, 2)``: speed (m/s) and height above the floor (m). The distance is Euclidean in these units.

    Notes
    -----
    Exact to rounding where the reference can be reached and the iteration converges, which it does from nearly
    everywhere (tests compare it with SciPy's). Limits are kept by taking the best of the step with both controls free
    and with either at its limit.
    """
    n = len(apices)
    best = np.stack([np.clip(0.08 * apices[:, 0], -limits[0], limits[0]), np.zeros(n)], -1)

    def residual(controls: FloatArray) -> FloatArray:
        times = len(controls) // n
        after, _, _, failed = take_hops(np.tile(apices, (times, 1)), controls)
        return np.where(failed[:, None], np.inf, after - np.tile(references, (times, 1)))

    error = residual(best)
    for guess in (0.14, 0.0, 0.2, -0.05):
        lost = ~np.isfinite(error[:, 0])
        if not lost.any():
            break
        best[lost, 0] = np.clip(guess * apices[lost, 0], -limits[0], limits[0])
        error = residual(best)
    for _ in range(_ITERATIONS):
        probes = np.concatenate(best + np.diag(_PROBE)[:, None])
        moved = residual(probes).reshape(2, n, 2)
        with np.errstate(invalid="ignore"):
            slopes = np.moveaxis((moved - error) / _PROBE[:, None, None], 0, -1)
        slopes = np.nan_to_num(slopes, nan=0.0, posinf=0.0, neginf=0.0)
        steps = _steps(slopes, np.nan_to_num(error, posinf=0.0), best, limits)
        trials = np.concatenate([np.clip(best + share * step, -limits, limits) for step in steps for share in _SHARES])
        errors = residual(trials).reshape(-1, n, 2)
        sizes = np.concatenate([(error**2).sum(-1)[None], (errors**2).sum(-1)])
        chosen = sizes.argmin(0)
        every = np.arange(n)
        if (sizes[chosen, every] >= sizes[0] - 1e-14).all():
            break
        best = np.concatenate([best[None], trials.reshape(-1, n, 2)])[chosen, every]
        error = np.concatenate([error[None], errors])[chosen, every]
    return best


def _steps(slopes: FloatArray, error: FloatArray, at: FloatArray, limits: FloatArray) -> Sequence[Any]:
    """Steps ``(n, 2)`` of least squares: both controls free, and each in turn moved to the limit it is nearest to."""
    damped = slopes + 1e-9 * np.eye(2)
    singular = np.abs(np.linalg.det(damped)) < 1e-12
    damped[singular] = np.eye(2)
    free = -np.linalg.solve(damped, error[..., None])[..., 0]
    free[singular] = 0.0
    steps = [free]
    for fixed in range(2):
        other = 1 - fixed
        step = np.zeros_like(free)
        step[:, fixed] = np.clip(at[:, fixed] + free[:, fixed], -limits[fixed], limits[fixed]) - at[:, fixed]
        left = error + slopes[:, :, fixed] * step[:, fixed, None]
        slope = slopes[:, :, other]
        step[:, other] = -(slope * left).sum(-1) / np.maximum((slope**2).sum(-1), 1e-12)
        steps.append(step)
    return steps


def segment_reference(apices: FloatArray, configuration: FloatArray) -> FloatArray:
    """Speed and height (m above zero) to aim at in the present segment, ``(n, 2)``."""
    _, floor, ceiling, speed = _present(apices, configuration)
    return np.stack([speed, target_height(floor, ceiling)], -1)


def border_reference(apices: FloatArray, configuration: FloatArray) -> FloatArray:
    """As `segment_reference`, but near a border as high as the border can be passed, ``(n, 2)``."""
    reference = segment_reference(apices, configuration)
    table = configuration.reshape(-1, MOST_SEGMENTS, PARTS)
    index = segment_at(configuration, apices[:, 0])
    rows, following = np.arange(len(index)), np.minimum(index + 1, MOST_SEGMENTS - 1)
    low = np.maximum(table[rows, index, 1], table[rows, following, 1]) + _FOOT_ROOM
    high = np.minimum(table[rows, index, 2], table[rows, following, 2]) - _HEAD_ROOM
    ends = np.concatenate([borders(configuration), np.full((len(index), 1), np.inf)], 1)[rows, index]
    near = ends - apices[:, 0] < BAND_FROM
    reference[:, 1] = np.where(near, np.clip(reference[:, 1], low, np.maximum(low, high)), reference[:, 1])
    return reference


def deadbeat_pilot(
    reference: Callable[[FloatArray, FloatArray], FloatArray] = segment_reference,
) -> Callable[[FloatArray, FloatArray], FloatArray]:
    """Decide by `solve_deadbeat` towards ``reference(apices, configuration)``, over the floor under the body."""

    def pilot(apices: FloatArray, configuration: FloatArray) -> FloatArray:
        _, floor, _, _ = _present(apices, configuration)
        down = np.stack([np.zeros(len(floor)), floor], -1)
        return solve_deadbeat(apices[:, 1:] - down, reference(apices, configuration) - down)

    return pilot


def _present(apices: FloatArray, configuration: FloatArray) -> Any:
    """Length, floor, ceiling and speed of the segments under the bodies: ``(4, n)``."""
    table = configuration.reshape(-1, MOST_SEGMENTS, PARTS)
    return table[np.arange(len(table)), segment_at(configuration, apices[:, 0])].T
