"""Linear-quadratic regulator of the car in one mode, and the quadratic Lyapunov function of its closed loop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_continuous_lyapunov, solve_discrete_are

from rlstab.envs.hybrid.car import linearisation
from rlstab.errors import UserError


@dataclass(frozen=True, eq=False)
class CarLqr:
    """``u = -K x``, ``V = x'P x / 2``, for one friction and one speed."""

    gain: NDArray[np.float64]
    """K, ``(2, 7)``."""
    p: NDArray[np.float64]
    """P, ``(7, 7)``: ``A'P + P A = -I`` with the closed loop's continuous-time A."""


def car_lqr(mu_f: float, v_ref: float, dt: float = 0.01, control_weight: float = 1.0) -> CarLqr:
    """Solve the discrete Riccati equation of the Euler-discretised linearisation; errors have weight 1.

    Parameters
    ----------
    mu_f, v_ref
        Friction relative to dry road, reference speed in m/s.
    dt
        Control period, seconds.
    control_weight
        Weight of both controls squared; 1 is the benchmark's. ``V`` counts errors alone, whatever it is.

    Raises
    ------
    UserError
        The single-track model does not hold there, or the weight is not positive.

    Examples
    --------
    >>> car_lqr(1.0, 10.0).gain[1, [0, 3]].round(6)  # acceleration: only errors along the road matter
    array([0.991377, 1.727051])
    """
    if not control_weight > 0.0:
        raise UserError(f"the regulator's control_weight must be positive, got {control_weight}")
    a, b = linearisation(mu_f, v_ref)
    weight = control_weight * np.eye(2)
    step, held = np.eye(7) + dt * a, dt * b
    cost = np.asarray(solve_discrete_are(step, held, np.eye(7), weight))
    gain = np.asarray(np.linalg.solve(weight + held.T @ cost @ held, held.T @ cost @ step), np.float64)
    closed = a - b @ gain
    p = np.asarray(solve_continuous_lyapunov(closed.T, -np.eye(7)), np.float64)
    return CarLqr(gain, 0.5 * (p + p.T))
