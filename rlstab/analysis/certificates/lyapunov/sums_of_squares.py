"""Level sets of a quadratic form in which a polynomial vector field descends, by sums of squares.

For ``V = x' P x`` the search is for a multiplier ``s``, a sum of squares, such that
``-grad V . f - eps |x|^2 - s (rho - V)`` is one too; then ``dV/dt < 0`` wherever ``0 < V <= rho``. Semidefinite solvers
answer in floating point, so what comes out is an estimate and no proof.

References
----------
Parrilo (2000). Structured semidefinite programs and semialgebraic geometry methods in robustness and optimization.
Papachristodoulou, Prajna (2002). On the construction of Lyapunov functions using the sum of squares decomposition.
"""

from __future__ import annotations

import itertools
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlstab.analysis.certificates.lyapunov.regions import Bracket, roa_bisection
from rlstab.errors import UserError

Monomial: TypeAlias = tuple[int, ...]
Polynomial: TypeAlias = Mapping[Monomial, float]
"""Exponents to coefficient: ``{(2, 1): -1.0}`` is ``-x0^2 x1``."""

_ROOM = 1e-7
"""How positive the matrix must come out, so that the solver's tolerance does not decide."""


def roa_sos(
    field: Sequence[Polynomial],
    matrix: ArrayLike,
    low: float,
    high: float,
    *,
    multiplier_degree: int = 2,
    eps: float = 1e-6,
    relative: float = 1e-3,
) -> Bracket:
    """Largest level of ``x' P x`` in which ``x' = f(x)`` is found to descend, between ``low`` and ``high``.

    Parameters
    ----------
    field
        One polynomial a state.
    matrix
        ``P (n, n)``, symmetric.
    low, high
        Levels, ``0 < low < high``.
    multiplier_degree
        Of ``s``, even.
    eps
        Of ``|x|^2``, by which ``V`` must fall.
    relative
        Width of the bracket at which to stop.

    Raises
    ------
    UserError
        Shapes do not fit, or the degree is odd.
    """
    form = np.asarray(matrix, np.float64)
    n = len(field)
    if form.shape != (n, n) or not np.allclose(form, form.T):
        raise UserError(f"the form must be a symmetric matrix for {n} states, got shape {form.shape}")
    if any(len(monomial) != n or min(monomial) < 0 for polynomial in field for monomial in polynomial):
        raise UserError(f"every monomial must have {n} exponents of 0 or more")
    if multiplier_degree < 0 or multiplier_degree % 2:
        raise UserError(f"multiplier_degree must be even, got {multiplier_degree}")
    value = _quadratic(form)
    descent: dict[Monomial, float] = defaultdict(float)
    for index in range(n):
        slope = {tuple(int(j == k) for j in range(n)): 2.0 * form[index, k] for k in range(n)}
        for monomial, coefficient in _times(slope, field[index]).items():
            descent[monomial] -= coefficient
    for index in range(n):
        descent[tuple(2 * int(j == index) for j in range(n))] -= eps
    return roa_bisection(lambda rho: _feasible(descent, value, rho, multiplier_degree), low, high, relative=relative)


def _feasible(descent: Polynomial, value: Polynomial, rho: float, degree: int) -> bool:
    """Whether the solver finds the two sums of squares at a level."""
    import cvxpy as cp

    n = len(next(iter(value)))
    highest = max(max(map(sum, descent)), degree + 2)
    basis, factors = list(_monomials(n, 1, (highest + 1) // 2)), list(_monomials(n, 1, max(1, degree // 2)))
    if degree == 0:
        factors = [(0,) * n]
    gram = cp.Variable((len(basis), len(basis)), symmetric=True)
    multiplier = cp.Variable((len(factors), len(factors)), symmetric=True)
    room = cp.Variable()
    terms: dict[Monomial, Any] = defaultdict(float)
    for (i, a), (j, b) in itertools.product(enumerate(basis), repeat=2):
        terms[_plus(a, b)] = terms[_plus(a, b)] + gram[i, j]
    for (i, a), (j, b) in itertools.product(enumerate(factors), repeat=2):
        # s (rho - V) on the left of the equation.
        terms[_plus(a, b)] = terms[_plus(a, b)] + rho * multiplier[i, j]
        for monomial, coefficient in value.items():
            place = _plus(_plus(a, b), monomial)
            terms[place] = terms[place] - coefficient * multiplier[i, j]
    equations = [terms[place] == descent.get(place, 0.0) for place in terms]
    if not set(descent) <= set(terms):
        return False
    cones = [gram >> room * np.eye(len(basis)), multiplier >> 0, room <= 1.0]
    problem = cp.Problem(cp.Maximize(room), [*equations, *cones])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            problem.solve(solver=cp.CLARABEL)
    except cp.SolverError:
        return False
    return problem.status == cp.OPTIMAL and room.value is not None and float(room.value) >= _ROOM


def _monomials(n: int, least: int, most: int) -> Iterator[Monomial]:
    for exponents in itertools.product(range(most + 1), repeat=n):
        if least <= sum(exponents) <= most:
            yield exponents


def _plus(left: Monomial, right: Monomial) -> Monomial:
    return tuple(a + b for a, b in zip(left, right, strict=True))


def _times(left: Polynomial, right: Polynomial) -> dict[Monomial, float]:
    found: dict[Monomial, float] = defaultdict(float)
    for (a, x), (b, y) in itertools.product(left.items(), right.items()):
        found[_plus(a, b)] += x * y
    return found


def _quadratic(form: NDArray[np.float64]) -> dict[Monomial, float]:
    n, found = len(form), defaultdict[Monomial, float](float)
    for i, j in itertools.product(range(n), repeat=2):
        found[tuple(int(k == i) + int(k == j) for k in range(n))] += float(form[i, j])
    return found
