"""Stability of two linear modes in the plane that a quadratic form switches between: proof, or a growing trajectory.

``x' = A0 x`` where ``x' S x <= 0`` and ``x' = A1 x`` where ``x' S x >= 0``. Looking at the modes separately decides
nothing: two stable ones can be unstable together. What proves stability is a continuous, piecewise quadratic ``V``,
``x' P0 x`` and ``x' P1 x`` with ``P0 - P1 = t S``, positive and falling in each region (S-procedure); what refutes it
is a revolution after which a trajectory is no shorter than before.

References
----------
Johansson, Rantzer (1998). Computation of piecewise quadratic Lyapunov functions for hybrid systems. IEEE TAC 43(4).
"""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import expm
from scipy.optimize import brentq

from rlstab.analysis.certificates.certificate import Certificate, digest
from rlstab.analysis.certificates.lyapunov.verifier import Status
from rlstab.analysis.plots import new_axes
from rlstab.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]

_STATEMENT = (
    "every trajectory of the switched system converges to 0 exponentially, from any state, under the switching at the "
    "boundary x'Sx = 0"
)
_CROSSING = 1e-9
"""Share of its scale by which a mode must cross the boundary."""


@dataclass(frozen=True, eq=False, repr=False)
class SwitchedCertificate(Certificate):
    """A piecewise quadratic Lyapunov function; its inequalities were checked in exact rational arithmetic."""

    kind = "switched_linear_certificate"

    p1: FloatArray
    """``P1 (2, 2)``."""
    jump: float
    """``t``."""
    boundary: FloatArray
    """``S (2, 2)``, scaled by a power of two to a largest entry between 1 and 2: exactly the same boundary."""
    multipliers: FloatArray
    """Of the S-procedure, ``(2, 2)``: for each region that of positivity and that of decrease."""

    def value(self, x: ArrayLike) -> FloatArray:
        """``V`` of states ``(..., 2)``."""
        states = np.asarray(x, np.float64)
        beside = np.einsum("...i,ij,...j->...", states, self.boundary, states)
        return np.einsum("...i,ij,...j->...", states, self.p1, states) + self.jump * np.minimum(beside, 0.0)

    def require(self, modes: ArrayLike, boundary: ArrayLike) -> None:
        """Refuse a system that the certificate is not about, or numbers that prove nothing of it.

        The inequalities are checked again in exact rational arithmetic, so that no hash needs to be believed.

        Raises
        ------
        UserError
            Modes or boundary differ, or the certificate was changed.
        """
        a, s = np.asarray(modes, np.float64), np.asarray(boundary, np.float64)
        if digest(a) != self.network_sha256:
            raise UserError("this certificate is for other modes: verify these")
        if digest(s) != self.set_sha256 or not _is_same(_scaled(s), self.boundary):
            raise UserError("this certificate is for another boundary: verify this one")
        if self.grade != "sound" or self.statement != _STATEMENT or not np.isfinite(self.jump):
            raise UserError("this certificate does not say what its numbers prove: it was changed")
        if (self.multipliers < 0.0).any() or not (np.isfinite(self.p1).all() and np.isfinite(self.multipliers).all()):
            raise UserError("this certificate's numbers are not those of a proof: they were changed")
        if not _holds(a, self.boundary, self.p1, self.jump, self.multipliers):
            raise UserError("this certificate's inequalities do not hold: its numbers were changed")

    def summary(self) -> dict[str, Any]:
        """See `Result.summary`."""
        return {"statement": self.statement, "grade": self.grade, "method": self.method}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Level sets of ``V`` and the boundary."""
        axes = new_axes() if ax is None else ax
        side = np.linspace(-1.0, 1.0, 201)
        states = np.stack(np.meshgrid(side, side), -1)
        form = np.einsum("...i,ij,...j->...", states, self.boundary, states)
        axes.contour(side, side, np.sqrt(self.value(states)), 8)
        axes.contour(side, side, form, [0.0], colors="black", linestyles="dashed")
        axes.set(xlabel="x1", ylabel="x2", aspect="equal", title="V; dashed: changes of mode")
        return axes


@dataclass(frozen=True, eq=False)
class SwitchedVerification:
    """How it ended."""

    status: Status
    certificate: SwitchedCertificate | None
    """Where it was proved."""
    growth: float | None
    """Factor of the norm over one revolution; None where trajectories do not go round."""
    period_s: float | None
    """Seconds of a revolution."""


def verify_switched(modes: ArrayLike, boundary: ArrayLike) -> SwitchedVerification:
    """Decide whether the origin is globally exponentially stable.

    Parameters
    ----------
    modes
        ``A0`` and ``A1``, ``(2, 2, 2)``, per second.
    boundary
        ``S (2, 2)``, symmetric and indefinite: mode 1 is where ``x' S x`` is positive.

    Returns
    -------
    SwitchedVerification
        ``proved`` with a certificate, ``refuted`` where a revolution does not shrink the state, else ``unknown``.

    Raises
    ------
    UserError
        Shapes do not fit, a number is not finite, ``S`` does not cut the plane, or a trajectory can slide along the
        boundary, for which nothing is said here.

    Examples
    --------
    >>> slow, fast = [[-0.1, 1.0], [-10.0, -0.1]], [[-0.1, 10.0], [-1.0, -0.1]]
    >>> product = [[0.0, 1.0], [1.0, 0.0]]
    >>> verify_switched([slow, fast], product).status, verify_switched([fast, slow], product).status
    ('refuted', 'proved')
    """
    a, s = np.asarray(modes, np.float64), np.asarray(boundary, np.float64)
    if a.shape != (2, 2, 2) or s.shape != (2, 2) or not np.isfinite(a).all() or not np.isfinite(s).all():
        raise UserError(f"two modes (2, 2, 2) and a form (2, 2) of finite numbers are needed, got {a.shape}, {s.shape}")
    if not (s == s.T).all() or not np.linalg.det(s) < 0.0:
        raise UserError("the boundary's form must be symmetric and indefinite: otherwise one mode has the whole plane")
    rays = _rays(s)
    _refuse_sliding(a, s, rays)
    revolution = _revolution(a, s, rays)
    growth, period = (None, None) if revolution is None else revolution
    if growth is not None and growth >= 1.0:
        return SwitchedVerification("refuted", None, growth, period)
    certificate = _certificate(a, s)
    return SwitchedVerification("unknown" if certificate is None else "proved", certificate, growth, period)


def _rays(s: FloatArray) -> FloatArray:
    """Unit vectors along the four rays of the boundary, ``(4, 2)``, anticlockwise."""
    values, vectors = np.linalg.eigh(s)
    # In the eigenbasis the boundary is |v1| / |v0| = sqrt(-l0 / l1).
    angle = math.atan(math.sqrt(-values[0] / values[1]))
    angles = np.array([angle, math.pi - angle, math.pi + angle, -angle])
    rays = np.stack([np.cos(angles), np.sin(angles)], -1) @ vectors.T
    return rays[np.argsort(np.arctan2(rays[:, 1], rays[:, 0]))]


def _refuse_sliding(a: FloatArray, s: FloatArray, rays: FloatArray) -> None:
    scale = np.abs(s).sum() * np.abs(a).sum((1, 2))
    rates = np.stack([np.einsum("ri,ij,rj->r", rays, s @ mode, rays) for mode in a]) / scale[:, None]
    for ray, pair in zip(rays, rates.T, strict=True):
        if not (pair[0] * pair[1] > 0.0 and np.abs(pair).min() > _CROSSING):
            raise UserError(
                f"trajectories may slide along the boundary or leave it on both sides at the ray ({ray[0]:.3g}, "
                f"{ray[1]:.3g}): both modes must cross it in the same direction"
            )


def _revolution(a: FloatArray, s: FloatArray, rays: FloatArray) -> tuple[float, float] | None:
    """Factor and seconds of a revolution from the first ray; None where a trajectory stays in a region for ever."""
    x, time = rays[0], 0.0
    for _ in range(4):
        # Both modes cross in the same direction, so that either tells which region begins.
        entered = int(x @ s @ a[0] @ x > 0.0)
        passed = _passage(a[entered], s, x)
        if passed is None:
            return None
        time, x = time + passed, expm(a[entered] * passed) @ x
    return float(np.linalg.norm(x)), time


def _passage(a: FloatArray, s: FloatArray, x: FloatArray) -> float | None:
    """Seconds from a ray of the boundary to the next one under one mode; None where it is never met."""
    turning = math.sqrt(max(0.0, float(np.linalg.det(a) - 0.25 * np.trace(a) ** 2)))
    if turning == 0.0:
        return None
    # A region is narrower than half a turn, which takes pi over the mode's angular frequency.

    def form(t: float) -> float:
        y = expm(a * t) @ x
        return float(y @ s @ y)

    times = np.linspace(0.0, math.pi / turning, 400)[1:]
    forms = [form(t) for t in times]
    sign = math.copysign(1.0, forms[0])
    for (before, after), value in zip(itertools.pairwise(times), forms[1:], strict=True):
        if value * sign <= 0.0:
            root: Any = brentq(form, before, after, xtol=1e-15)
            return float(root)
    return None


def _certificate(a: FloatArray, s: FloatArray) -> SwitchedCertificate | None:
    """Search by a semidefinite program, check in rational arithmetic; None where none was found."""
    import cvxpy as cp

    scale = _scaled(s)
    if scale is None:
        return None
    p1, jump, room = cp.Variable((2, 2), symmetric=True), cp.Variable(), cp.Variable()
    weights = cp.Variable((2, 2), nonneg=True)
    forms: list[Any] = [p1 + jump * scale, p1]
    conditions: list[Any] = [cp.trace(p1) <= 1.0, room <= 1.0]
    for index, (mode, sign) in enumerate(zip(a, (-1.0, 1.0), strict=True)):
        # sign x' S x >= 0 in the region.
        positive = forms[index] - weights[index, 0] * sign * scale
        falling = -(mode.T @ forms[index] + forms[index] @ mode) - weights[index, 1] * sign * scale
        conditions += [positive >> room * np.eye(2), falling >> room * np.eye(2)]
    problem = cp.Problem(cp.Maximize(room), conditions)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            problem.solve(solver=cp.CLARABEL)
    except cp.SolverError:
        return None
    if p1.value is None or jump.value is None or weights.value is None:
        return None
    found_p1 = 0.5 * (p1.value + p1.value.T)
    multipliers = np.maximum(np.asarray(weights.value, np.float64), 0.0)
    if not _holds(a, scale, found_p1, float(jump.value), multipliers):
        return None
    return SwitchedCertificate(
        statement=_STATEMENT,
        grade="sound",
        method="piecewise quadratic Lyapunov function by a semidefinite program (Johansson, Rantzer 1998); its "
        "inequalities hold in exact rational arithmetic",
        network_sha256=digest(a),
        set_sha256=digest(s),
        p1=found_p1,
        jump=float(jump.value),
        boundary=scale,
        multipliers=multipliers,
    )


def _scaled(s: FloatArray) -> FloatArray | None:
    """``S`` by a power of two, which rounds nothing: what is checked is about the boundary that was given.

    None where an entry is so much smaller than another that it does not survive.
    """
    _, exponent = np.frexp(np.abs(s).max())
    power = 1 - int(exponent)
    scaled = np.ldexp(s, power)
    return scaled if (np.ldexp(scaled, -power) == s).all() else None


def _holds(a: FloatArray, s: FloatArray, p1: FloatArray, jump: float, weights: FloatArray) -> bool:
    """Whether all four inequalities hold of these very numbers, decided without rounding."""
    exact_s, exact_p1 = _exact(s), _exact(p1)
    exact_p0 = _combined(exact_p1, exact_s, Fraction(jump))
    for mode, form, sign, (above, below) in zip(a, (exact_p0, exact_p1), (-1, 1), weights, strict=True):
        exact = _exact(mode)
        change = [
            [-sum(exact[k][i] * form[k][j] + form[i][k] * exact[k][j] for k in range(2)) for j in range(2)]
            for i in range(2)
        ]
        if not _is_positive(_combined(form, exact_s, -sign * Fraction(float(above)))):
            return False
        if not _is_positive(_combined(change, exact_s, -sign * Fraction(float(below)))):
            return False
    return True


def _is_same(found: FloatArray | None, kept: FloatArray) -> bool:
    return found is not None and np.array_equal(found, kept)


def _exact(matrix: FloatArray) -> list[list[Any]]:
    return [[Fraction(float(value)) for value in row] for row in matrix]


def _combined(left: list[list[Any]], right: list[list[Any]], factor: Fraction) -> list[list[Any]]:
    return [[left[i][j] + factor * right[i][j] for j in range(2)] for i in range(2)]


def _is_positive(matrix: list[list[Any]]) -> bool:
    """Whether a symmetric 2x2 matrix is positive definite, by its leading minors."""
    (a, b), (c, d) = matrix
    return b == c and a > 0 and a * d - b * c > 0
