"""Exact gains of linear loops: the truth that learned controllers and estimated gains are held to.

The L2 gain of a loop is the smallest ``g`` with ``sum |z|^2 <= g^2 sum |w|^2 + b(x0)`` for every disturbance of finite
energy; for a stable loop it is the H-infinity norm, the largest singular value of the transfer matrix over frequencies.

References
----------
Bruinsma and Steinbuch (1990), "A fast algorithm to compute the H-infinity norm of a transfer function matrix".
Basar and Bernhard (1995), "H-infinity optimal control and related minimax design problems", chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from rlstab.envs.linear.systems import LinearSystem
from rlstab.errors import UserError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Loop:
    """A closed loop ``x' = A x + B w``, ``z = C x`` in discrete time.

    Parameters
    ----------
    a, b, c
        ``(n, n)``, ``(n, k)``, ``(p, n)``.
    """

    a: FloatArray
    b: FloatArray
    c: FloatArray

    @property
    def spectral_radius(self) -> float:
        """Largest absolute eigenvalue; the loop is stable if it is below one."""
        return float(np.abs(np.linalg.eigvals(self.a)).max())

    @property
    def is_stable(self) -> bool:
        """Whether every eigenvalue lies inside of the unit circle."""
        return self.spectral_radius < 1.0

    def response(self, angle: float) -> float:
        """Largest singular value of the transfer matrix at a frequency in radians a step."""
        n = len(self.a)
        transfer = self.c @ np.linalg.solve(np.exp(1j * angle) * np.eye(n) - self.a, self.b.astype(complex))
        return float(np.linalg.norm(transfer, 2))

    def discounted(self, discount: float) -> Loop:
        """The loop whose gain is that of this one with step ``t`` weighted by ``discount ** t``."""
        root = np.sqrt(discount)
        return Loop(root * self.a, root * self.b, self.c)


def close(system: LinearSystem, gain: FloatArray) -> Loop:
    """The loop of a system under ``u = -gain x``.

    Parameters
    ----------
    gain
        ``(m, n)``.

    Raises
    ------
    UserError
        It has another shape.
    """
    gain = np.atleast_2d(np.asarray(gain, np.float64))
    if gain.shape != (system.control_size, system.state_size):
        raise UserError(f"gain has shape {gain.shape}, expected {(system.control_size, system.state_size)}")
    output = np.vstack([_root(system.q), -_root(system.r) @ gain])
    return Loop(system.a - system.b @ gain, system.e, output)


def h_infinity_norm(loop: Loop, tolerance: float = 1e-9) -> tuple[float, float]:
    """Gain of a loop, and the frequency at which it is reached, in radians a step.

    Level sets of the largest singular value are found from the unimodular eigenvalues of a symplectic pencil.

    Parameters
    ----------
    tolerance
        Relative. The value returned is reached at that frequency, so that it is never above the gain.

    Returns
    -------
    gain, angle
        ``(inf, nan)`` for a loop that is not stable.
    """
    if not loop.is_stable:
        return np.inf, np.nan
    angles = np.concatenate([np.linspace(0.0, np.pi, 65), np.abs(np.angle(np.linalg.eigvals(loop.a)))])
    gain, angle = max((loop.response(angle), float(angle)) for angle in angles)
    if gain == 0.0:
        return 0.0, 0.0
    for _ in range(100):
        crossings = _crossings(loop, gain * (1.0 + tolerance))
        if len(crossings) < 2:
            return gain, angle
        middles = 0.5 * (crossings[1:] + crossings[:-1])
        higher, there = max((loop.response(middle), float(middle)) for middle in middles)
        if higher <= gain * (1.0 + tolerance):
            return gain, angle
        gain, angle = higher, there
    return gain, angle


def _crossings(loop: Loop, level: float) -> FloatArray:
    """Frequencies in [0, pi] at which a singular value is ``level``, and both ends, in order."""
    n = len(loop.a)
    eye, zero = np.eye(n), np.zeros((n, n))
    left = np.block([[loop.a, loop.b @ loop.b.T / level**2], [zero, eye]])
    right = np.block([[eye, zero], [loop.c.T @ loop.c, loop.a.T]])
    values = linalg.eigvals(left, right)
    values = values[np.isfinite(values)]
    # Rounding moves double roots, where two crossings meet, off the circle by its square root.
    on_circle = values[np.abs(np.abs(values) - 1.0) < 1e-6]
    if not len(on_circle):
        return np.empty(0)
    return np.unique(np.concatenate([[0.0, np.pi], np.abs(np.angle(on_circle))]))


def h2_norm(loop: Loop) -> float:
    """Root of the mean of ``|z|^2`` under white noise of unit variance; ``inf`` for a loop that is not stable."""
    if not loop.is_stable:
        return np.inf
    gramian = linalg.solve_discrete_lyapunov(loop.a, loop.b @ loop.b.T)
    return float(np.sqrt(np.trace(loop.c @ gramian @ loop.c.T)))


def response_matrix(loop: Loop, steps: int) -> FloatArray:
    """Outputs of steps 0 to ``steps - 1`` from rest as a linear function of the disturbances of the same steps.

    Returns
    -------
    array
        ``(steps * p, steps * k)``. The first ``p`` rows and the last ``k`` columns are zero: a disturbance acts on the
        state, which is seen a step later.
    """
    p, k = len(loop.c), loop.b.shape[1]
    matrix = np.zeros((steps * p, steps * k))
    state = loop.b
    for delay in range(1, steps):
        block = loop.c @ state
        for row in range(delay, steps):
            column = row - delay
            matrix[row * p : (row + 1) * p, column * k : (column + 1) * k] = block
        state = loop.a @ state
    return matrix


def finite_horizon_gain(loop: Loop, steps: int) -> tuple[float, FloatArray]:
    """Largest gain over so many steps from rest, and the disturbance ``(steps, k)`` of unit energy that reaches it.

    It grows with the steps towards the H-infinity norm of a stable loop, and is finite for any loop.

    Raises
    ------
    UserError
        There are no steps.
    """
    if steps < 1:
        raise UserError(f"steps must be at least 1, got {steps}")
    _, values, right = np.linalg.svd(response_matrix(loop, steps), full_matrices=False)
    return float(values[0]), right[0].reshape(steps, -1)


@dataclass(frozen=True, eq=False)
class GameSolution:
    """Saddle point of the game in which the control minimises ``sum |z|^2 - level^2 |w|^2`` and ``w`` maximises it.

    Parameters
    ----------
    level
        Bound on the gain that the control guarantees.
    value
        ``(n, n)``: ``x'P x`` is the value of the game.
    control
        ``(m, n)``: ``u = -K x``.
    disturbance
        ``(k, n)``: the worst ``w = K_w x``.
    """

    level: float
    value: FloatArray
    control: FloatArray
    disturbance: FloatArray


def solve_game(system: LinearSystem, level: float, iterations: int = 200_000) -> GameSolution | None:
    """Solve the game by its Riccati iteration; ``None`` if no control bounds the gain by ``level``.

    Raises
    ------
    UserError
        The level is not positive.
    """
    if not level > 0.0:
        raise UserError(f"the level must be positive, got {level}")
    a, b, e, q, r = system.a, system.b, system.e, system.q, system.r
    eye = np.eye(system.state_size)
    spread = b @ np.linalg.solve(r, b.T) - e @ e.T / level**2
    p = q
    for _ in range(iterations):
        if np.linalg.eigvalsh(level**2 * np.eye(system.disturbance_size) - e.T @ p @ e)[0] <= 0.0:
            return None
        after = q + a.T @ p @ np.linalg.solve(eye + spread @ p, a)
        after = 0.5 * (after + after.T)
        if not np.isfinite(after).all() or np.abs(after).max() > 1e12:
            return None
        if np.abs(after - p).max() <= 1e-13 * np.abs(after).max():
            p = after
            break
        p = after
    closed = np.linalg.solve(eye + spread @ p, a)
    control: FloatArray = np.linalg.solve(r, b.T @ p @ closed).astype(np.float64)
    if not close(system, control).is_stable:
        return None
    return GameSolution(level, p, control, e.T @ p @ closed / level**2)


def optimal_level(system: LinearSystem, tolerance: float = 1e-7) -> float:
    """Smallest gain that any control can guarantee, by bisection of `solve_game`.

    Raises
    ------
    UserError
        No control stabilises the system.
    """
    high = h_infinity_norm(close(system, lqr(system)))[0]
    low = 0.0
    while high - low > tolerance * high:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if solve_game(system, middle) is not None else (middle, high)
    return high


def lqr(system: LinearSystem) -> FloatArray:
    """Gain ``(m, n)`` of the linear-quadratic regulator, which knows of no disturbance.

    Raises
    ------
    UserError
        No control stabilises the system.
    """
    try:
        p = linalg.solve_discrete_are(system.a, system.b, system.q, system.r)
    except (np.linalg.LinAlgError, ValueError) as error:
        raise UserError(f"no linear-quadratic regulator: {error}") from error
    return np.linalg.solve(system.r + system.b.T @ p @ system.b, system.b.T @ p @ system.a)


def _root(matrix: FloatArray) -> FloatArray:
    """Symmetric square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
