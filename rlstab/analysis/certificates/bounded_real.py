"""Proof that a linear loop has at most a given gain: the bounded real lemma, checked in exact arithmetic."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from rlstab.analysis.certificates.certificate import Certificate, digest
from rlstab.analysis.result import Scalar
from rlstab.analysis.robustness.linear import Loop
from rlstab.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]
Exact = list[list[Fraction]]


@dataclass(frozen=True, eq=False, repr=False)
class GainCertificate(Certificate):
    """A storage function that proves ``sum |z|^2 <= level^2 sum |w|^2 + x0' P x0`` for every disturbance."""

    kind: ClassVar[str] = "gain_certificate"

    level: float
    """Bound on the gain."""
    storage: FloatArray = field(metadata={"unit": "output squared per state squared"})
    """``(n, n)``: ``P``, positive definite."""

    def summary(self) -> dict[str, Scalar]:
        """The bound and its grade."""
        return {"gain at most": self.level, "grade": self.grade}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the eigenvalues of the storage function."""
        from rlstab.analysis import plots

        ax = ax if ax is not None else plots.new_axes()
        ax.semilogy(np.linalg.eigvalsh(self.storage), "o")
        ax.set_xlabel("number")
        ax.set_ylabel("eigenvalue of the storage function")
        return ax


def certify_gain(loop: Loop, level: float) -> GainCertificate | None:
    """Prove that the gain of a loop is below ``level``, or return ``None`` where no proof was found.

    A candidate is found by semidefinite programming in floating point; the proof is that the matrix of the bounded real
    lemma is negative definite and the candidate positive definite, by factorisations in rational numbers, which do not
    round. What is proved holds for the matrices of the loop as they are stored.

    Parameters
    ----------
    loop
        Of any stability; an unstable one is never certified.
    level
        Positive.

    Raises
    ------
    UserError
        The level is not positive and finite.
    """
    if not (level > 0.0 and np.isfinite(level)):
        raise UserError(f"the level must be positive and finite, got {level}")
    storage = _candidate(loop, level)
    if storage is None or not proves(loop, level, storage):
        return None
    return GainCertificate(
        statement=f"for every disturbance w and initial state x0, sum |z|^2 <= {level:.6g}^2 sum |w|^2 + x0' P x0",
        grade="sound",
        method="bounded real lemma, discrete time; candidate by semidefinite programming, checked in rational numbers",
        network_sha256=digest(loop.a, loop.b, loop.c),
        set_sha256=digest(level),
        level=level,
        storage=storage,
    )


def proves(loop: Loop, level: float, storage: FloatArray) -> bool:
    """Whether ``storage`` proves that the gain is below ``level``, decided exactly.

    Parameters
    ----------
    storage
        ``(n, n)``; symmetric to the last digit, or it proves nothing.
    """
    if not np.isfinite(storage).all() or not np.array_equal(storage, storage.T):
        return False
    a, b, c, p = (_exact(matrix) for matrix in (loop.a, loop.b, loop.c, storage))
    pa, pb = _product(p, a), _product(p, b)
    square = Fraction(level) ** 2
    corner = _difference(p, _sum(_product(_transposed(a), pa), _product(_transposed(c), c)))
    beside = _product(_transposed(a), pb)
    below = _product(_transposed(b), pb)
    size = len(b[0])
    disturbance = [[(square if i == j else Fraction(0)) - below[i][j] for j in range(size)] for i in range(size)]
    # Minus the matrix of the lemma: [[P - A'PA - C'C, -A'PB], [-B'PA, level^2 - B'PB]].
    rows = [[*corner[i], *(-value for value in beside[i])] for i in range(len(p))]
    rows += [[*(-beside[i][j] for i in range(len(p))), *disturbance[j]] for j in range(size)]
    return _is_positive_definite(p) and _is_positive_definite(rows)


def _candidate(loop: Loop, level: float) -> FloatArray | None:
    """Find a storage function with room to spare, in floating point."""
    import cvxpy as cp

    n, k = len(loop.a), loop.b.shape[1]
    # Balanced by the size of what a storage function must at least be, so that the solver sees numbers around one.
    scale = level**2
    p, room = cp.Variable((n, n), symmetric=True), cp.Variable()
    corner = p - loop.a.T @ p @ loop.a - loop.c.T @ loop.c / scale
    beside = -loop.a.T @ p @ loop.b
    lemma = cp.bmat([[corner, beside], [beside.T, np.eye(k) - loop.b.T @ p @ loop.b]])
    problem = cp.Problem(cp.Maximize(room), [0.5 * (lemma + lemma.T) >> room * np.eye(n + k), p >> 0, room <= 1.0])
    try:
        with warnings.catch_warnings():
            # However inaccurate the solution may be: it is checked exactly.
            warnings.simplefilter("ignore")
            problem.solve(solver=cp.CLARABEL)
    except cp.SolverError:
        return None
    if p.value is None or room.value is None or room.value <= 0.0:
        return None
    return scale * 0.5 * (p.value + p.value.T)


def _is_positive_definite(matrix: Exact) -> bool:
    """Whether all pivots of a symmetric matrix are positive."""
    rows = [list(row) for row in matrix]
    for pivot in range(len(rows)):
        if rows[pivot][pivot] <= 0:
            return False
        for below in range(pivot + 1, len(rows)):
            factor = rows[below][pivot] / rows[pivot][pivot]
            for column in range(pivot, len(rows)):
                rows[below][column] -= factor * rows[pivot][column]
    return True


def _exact(matrix: FloatArray) -> Exact:
    return [[Fraction(float(value)) for value in row] for row in matrix]


def _product(left: Exact, right: Exact) -> Exact:
    columns = _transposed(right)
    return [[_dot(row, column) for column in columns] for row in left]


def _dot(left: Sequence[Fraction], right: Sequence[Fraction]) -> Fraction:
    return sum((x * y for x, y in zip(left, right, strict=True)), Fraction(0))


def _transposed(matrix: Exact) -> Exact:
    return [list(column) for column in zip(*matrix, strict=True)]


def _sum(left: Exact, right: Exact) -> Exact:
    return [[x + y for x, y in zip(*rows, strict=True)] for rows in zip(left, right, strict=True)]


def _difference(left: Exact, right: Exact) -> Exact:
    return [[x - y for x, y in zip(*rows, strict=True)] for rows in zip(left, right, strict=True)]
