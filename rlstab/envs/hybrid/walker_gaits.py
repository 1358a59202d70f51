"""Gaits of the compass walker: the states to which they return, and the CLF-QP controller that makes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlstab.envs.hybrid.arrays import Array, namespace
from rlstab.envs.hybrid.walker import TORQUE_LIMIT, Walker, accelerations, stance_at

GAITS: NDArray[np.float64] = np.array(
    [
        [0.20, 0.1954769, -0.39095381, -0.75098276, 0.84715623],
        [0.19, 0.18701912, -0.37403822, -0.75194013, 0.73399985],
        [0.18, 0.17828843, -0.35657686, -0.73985833, 0.61868256],
        [0.17, 0.16904408, -0.33808815, -0.73270839, 0.53684717],
        [0.16, 0.15945166, -0.31890333, -0.72131479, 0.46414152],
        [0.15, 0.14933339, -0.29866678, -0.70566869, 0.40447736],
        [0.14, 0.14032325, -0.2806465, -0.68168187, 0.35481673],
        [0.13, 0.13121651, -0.26243302, -0.66095102, 0.30043977],
        [0.12, 0.12171151, -0.24342301, -0.63801199, 0.24864183],
        [0.11, 0.11198891, -0.2239778, -0.61313689, 0.19832826],
        [0.10, 0.1021308, -0.2042616, -0.58539337, 0.15049179],
        [0.09, 0.09220324, -0.18440647, -0.55220789, 0.10623652],
        [0.08, 0.08216057, -0.16432115, -0.51310581, 0.06603827],
        [0.07, 0.07203654, -0.14407308, -0.46698153, 0.03131433],
        [0.06, 0.06186418, -0.12372836, -0.41152471, 0.00328764],
        [0.05, 0.05160491, -0.10320982, -0.34765154, -0.01696834],
        [0.04, 0.04122806, -0.08245611, -0.27609453, -0.02837917],
    ]
)
"""Gait angle, and the state after each impact (q1, q2, q1d, q2d), ``(17, 5)``: fixed points of the sampled walker under
`gait_torque`. Those of 0.20 and 0.19 do not complete a step within 2 s."""

_B = (-17.989285913936719, -49.997811456350071, 12.980805798265429, -7.798078525272227)
_EPSILON = 0.1
_P11, _P12, _P22 = 1.256779350685494, 0.158113883008419, 0.117586806357096
_RATE = 7.822782634523065


def output(x: Array, gait: Array) -> tuple[Array, Array, Array, Array]:
    """Distance of the swing leg from the gait's path, and how it changes.

    Parameters
    ----------
    x
        ``(n, 4)``.
    gait
        Gait angles ``(n,)``, rad; their sign does not matter.

    Returns
    -------
    y, ydot, drift, column
        ``(n,)`` each: rad, rad/s, and ``yddot = drift + column u``.
    """
    q1, q2, q1d, q2d = (x[:, index] for index in range(4))
    b1, b2, b3, b4 = _B
    around = q1**2 - gait**2
    shape = b1 + q1 * (b2 + q1 * (b3 + q1 * b4))
    slope = b2 + q1 * (2.0 * b3 + 3.0 * b4 * q1)
    curvature = 2.0 * b3 + 6.0 * b4 * q1
    path = -2.0 * q1 + around * shape
    first = -2.0 + 2.0 * q1 * shape + around * slope
    second = 2.0 * shape + 4.0 * q1 * slope + around * curvature
    drift, column = accelerations(x)
    return (
        q2 - path,
        q2d - first * q1d,
        drift[:, 1] - second * q1d**2 - first * drift[:, 0],
        column[:, 1] - first * column[:, 0],
    )


def gait_lyapunov(x: Array, gait: Array) -> Array:
    """Control Lyapunov function of the gait's output, ``(n,)``."""
    y, ydot, _, _ = output(x, gait)
    scaled = y / _EPSILON
    return _P11 * scaled**2 + 2.0 * _P12 * scaled * ydot + _P22 * ydot**2


def gait_torque(x: Array, gait: Array, limit: float = TORQUE_LIMIT) -> Array:
    """Torque ``(n,)`` (N m) of the CLF-QP: the least change of the linearised output that makes `gait_lyapunov` fall.

    References
    ----------
    Choi et al. (2022). Computation of regions of attraction for hybrid limit cycles using reachability: an application
    to walking robots. IEEE RA-L 7.

    Examples
    --------
    >>> round(float(gait_torque(GAITS[7:8, 1:], GAITS[7:8, 0])[0]), 3)
    1.752
    """
    xp = namespace(x)
    y, ydot, drift, column = output(x, gait)
    scaled = y / _EPSILON
    falling = 2.0 / _EPSILON * (_P11 * scaled * ydot + _P12 * ydot**2)
    steered = 2.0 * (_P12 * scaled + _P22 * ydot)
    value = _P11 * scaled**2 + 2.0 * _P12 * scaled * ydot + _P22 * ydot**2
    wanted = -falling - _RATE * value
    needed = (wanted < 0.0) & (steered != 0.0)
    virtual = xp.where(needed, wanted / xp.where(needed, steered, 1.0), 0.0)
    return xp.clip((virtual - drift) / column, -limit, limit)


def walk(
    x: NDArray[np.float64], gait: NDArray[np.float64] | float, seconds: float = 2.0, control_period_s: float = 0.01
) -> list[Any]:
    """Let sampled walkers go under `gait_torque`; the stretches of time, one for each control period.

    Parameters
    ----------
    x
        ``(n, 4)``.
    gait
        Gait angle of each, ``(n,)`` or one for all, rad.
    seconds
        How long.
    control_period_s
        How long a torque is held.
    """
    system = Walker()
    state = stance_at(x, 0.0)
    state.configuration[:, 0] = gait
    stretches: list[Any] = []
    for _ in range(round(seconds / control_period_s)):
        torque = gait_torque(state.x, state.configuration[:, 0])
        stretches.append(system.advance(state, torque[:, None], control_period_s))
        state = stretches[-1].state
    return stretches


def gait_samples(longest_s: float = 2.0) -> NDArray[np.float64]:
    """States along the first step of every gait of `GAITS`, ``(17, k, 4)``; a shorter one repeats its last."""
    stretches = walk(GAITS[:, 1:], GAITS[:, 0], longest_s)
    samples, done = [GAITS[:, 1:].copy()], np.zeros(len(GAITS), bool)
    for stretch in stretches:
        done |= stretch.count > 0
        if done.all():
            break
        samples.append(np.where(done[:, None], samples[-1], stretch.state.x))
    return np.stack(samples, 1)
