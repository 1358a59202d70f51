"""Linear-quadratic regulator of the car in one mode, and the quadratic Lyapunov function of its closed loop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_continuous_lyapunov, solve_discrete_are

from rlstab.envs.hybrid.car import linearisation


@dataclass(frozen=True, eq=False)
class CarLqr:
    """``u = -K x``, ``V = x'P x / 2``, for one friction and one speed."""

    gain: NDArray[np.float64]
    """K, ``(2, 7)``."""
    p: NDArray[np.float64]
    """P, ``(7, 7)``: ``A'P + P A = -I`` with the closed loop's continuous-time A."""


def car_lqr(mu_f: float, v_ref: float, dt: float = 0.01) -> CarLqr:
    """Solve the discrete Riccati equation of the Euler-discretised linearisation with unit weights.

    Parameters
    ----------
    mu_f, v_ref
        Friction relative to dry road, reference speed in m/s.
    dt
        Control period, seconds.

    Raises
    ------
    UserError
        The single-track model does not hold there.

    Examples
    --------
    >>> car_lqr(1.0, 10.0).gain[1, [0, 3]].round(6)  # acceleration: only errors along the road matter
    array([0.991377, 1.727051])
    """
    a, b = linearisation(mu_f, v_ref)
    step, held = np.eye(7) + dt * a, dt * b
    cost = np.asarray(solve_discrete_are(step, held, np.eye(7), np.eye(2)))
    gain = np.asarray(np.linalg.solve(np.eye(2) + held.T @ cost @ held, held.T @ cost @ step), np.float64)
    closed = a - b @ gain
    p = np.asarray(solve_continuous_lyapunov(closed.T, -np.eye(7)), np.float64)
    return CarLqr(gain, 0.5 * (p + p.T))
