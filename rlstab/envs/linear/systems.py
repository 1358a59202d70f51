"""The reference systems: what an H-infinity method must reproduce before its other results are believed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm

from rlstab.errors import UserError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LinearSystem:
    """``x' = A x + B u + E w`` in discrete time, with the output ``|z|^2 = x'Q x + u'R u``.

    Parameters
    ----------
    a, b, e
        ``(n, n)``, ``(n, m)``, ``(n, k)``: state, control and disturbance matrices.
    q, r
        ``(n, n)`` positive semidefinite and ``(m, m)`` positive definite: weights of state and control.
    dt
        Time step in seconds; 1 where time has no unit.

    Raises
    ------
    UserError
        Shapes do not fit, numbers are not finite, or a weight is not definite as it must be.
    """

    a: FloatArray
    b: FloatArray
    e: FloatArray
    q: FloatArray
    r: FloatArray
    dt: float = 1.0

    def __post_init__(self) -> None:
        for name in "aberq":
            matrix = np.atleast_2d(np.asarray(getattr(self, name), np.float64))
            if matrix.ndim != 2 or not np.isfinite(matrix).all():
                raise UserError(f"{name} must be a matrix of finite numbers")
            object.__setattr__(self, name, matrix)
        n, m = len(self.a), len(self.r)
        expected = {"a": (n, n), "b": (n, m), "e": (n, self.e.shape[1]), "q": (n, n), "r": (m, m)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise UserError(f"{name} has shape {getattr(self, name).shape}, expected {shape}")
        for name, strict in (("q", False), ("r", True)):
            matrix = getattr(self, name)
            smallest = float(np.linalg.eigvalsh(matrix)[0]) if np.array_equal(matrix, matrix.T) else -np.inf
            if smallest < 0.0 or (strict and smallest == 0.0):
                raise UserError(f"{name} must be symmetric and positive {'' if strict else 'semi'}definite")

    @property
    def state_size(self) -> int:
        """``n``."""
        return len(self.a)

    @property
    def control_size(self) -> int:
        """``m``."""
        return self.b.shape[1]

    @property
    def disturbance_size(self) -> int:
        """``k``."""
        return self.e.shape[1]


def scalar_system() -> LinearSystem:
    """S1: ``x' = 1.1 x + u + w``, all weights one; the optimal level is ``sqrt(2.21)``, by ``u = -1.1 x``."""
    one = np.ones((1, 1))
    return LinearSystem(a=1.1 * one, b=one, e=one, q=one, r=one)


def double_integrator(dt: float = 0.05) -> LinearSystem:
    """S2: a unit mass pushed by the control and by the disturbance; states are position (m) and velocity (m/s)."""
    a, inputs = _held(np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([[0.0], [1.0]]), dt)
    return LinearSystem(a=a, b=inputs, e=inputs.copy(), q=np.diag([1.0, 0.1]), r=0.1 * np.eye(1), dt=dt)


def cart_pole(dt: float = 0.02) -> LinearSystem:
    """S3: a cart of 1 kg under a pole of 0.5 m with 0.1 kg at its end, upright; states ``x, x_dot, theta, theta_dot``.

    The control is a force on the cart, the disturbance a horizontal one on the bob.
    """
    cart, bob, length, gravity = 1.0, 0.1, 0.5, 9.81
    a = np.zeros((4, 4))
    a[0, 1] = a[2, 3] = 1.0
    a[1, 2] = -bob * gravity / cart
    a[3, 2] = (cart + bob) * gravity / (cart * length)
    control = np.array([0.0, 1.0 / cart, 0.0, -1.0 / (cart * length)])
    push = np.array([0.0, 0.0, 0.0, 1.0 / (bob * length)])
    a, inputs = _held(a, np.stack([control, push], axis=1), dt)
    return LinearSystem(
        a=a, b=inputs[:, :1], e=inputs[:, 1:], q=np.diag([1.0, 0.1, 1.0, 0.1]), r=0.01 * np.eye(1), dt=dt
    )


SYSTEMS = {"S1": scalar_system, "S2": double_integrator, "S3": cart_pole}
"""Name to constructor."""


def _held(a: FloatArray, inputs: FloatArray, dt: float) -> tuple[FloatArray, FloatArray]:
    """Discretise exactly, with inputs that are held over each step."""
    n, m = inputs.shape
    exponent = np.asarray(expm(dt * np.block([[a, inputs], [np.zeros((m, n + m))]])), np.float64)
    return exponent[:n, :n], exponent[:n, n:]
