"""From "trajectories come near 0 and stay" to "they converge to 0": a quadratic form that contracts around the origin.

Relative decrease cannot be bounded on a box that holds 0. But there ``F(x) - F(0) = J(x) x`` with ``J(x)`` within an
interval matrix, and ``|L' J L'^-1| <= r < 1`` for all of it proves ``W(F(x)) <= r^2 W(x)`` for ``W = x' P x``,
``P = L L'``. If this holds on a box around ``{V <= c1}``, which is never left, every trajectory in it converges to 0.
Where the box is too large for that, ``W`` is first proved to decrease by branch and bound, from a level that holds
``{V <= c1}`` down to one that is small enough.

What is proved is about the map less its value at 0: ``F(0)`` is not exactly 0 in floating point, and must be bounded
by ``1e-9`` of the box. Where the controller works in single precision, its rounding is part of the slopes, but for
that of the command at 0, which is part of ``F(0)``.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_discrete_lyapunov
from torch import Tensor, nn

from rlstab.analysis.certificates.lyapunov.bounds import AffineBounds
from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.slopes import SlopeBounds
from rlstab.analysis.certificates.lyapunov.verifier import Budget, Claim, split, verify
from rlstab.policies.lyapunov import QuadraticLyapunov

FloatArray = NDArray[np.float64]

_SLACK = 1e-8
"""Of a norm: far more than what float64 loses in the products and singular values below."""


class OriginProof(NamedTuple):
    """That every trajectory in ``{V <= c1}`` converges to 0."""

    matrix: FloatArray
    """``P (n, n)``."""
    contraction: float
    """``r``: ``W`` falls to at most ``r^2`` of it a step, in the innermost set."""
    half_widths: FloatArray
    """Of the box around 0 in which it does, ``(n,)``."""
    levels: tuple[float, float]
    """Of ``W``: between them it decreases as branch and bound showed; both 0 where that was not needed."""
    boxes: int
    seconds: float


def prove_convergence(loop: ClosedLoop, c1: float, budget: Budget | None = None) -> OriginProof | None:
    """Prove that trajectories from ``{V <= c1}`` converge to 0, or return ``None`` where no proof was found.

    Parameters
    ----------
    loop
        For which `verify` has proved that ``{V <= c1}`` is never left.
    c1
        Positive.
    budget
        Of the whole; 60 s if not given.
    """
    budget = Budget() if budget is None else budget
    start = time.perf_counter()
    size = len(loop.half_widths)
    with torch.no_grad():
        point = AffineBounds.of_boxes(
            torch.zeros(1, size, dtype=torch.float64), torch.zeros(1, size, dtype=torch.float64)
        )
        offset = loop.step(point)
        largest = torch.maximum(offset.low.abs(), offset.high.abs()).squeeze(1)
        if not bool((largest <= 1e-9 * loop.half_widths).all()):
            return None
        half, boxes = enclosing_box(loop.lyapunov, loop.half_widths, c1)
        for matrix in _candidates(_jacobian(loop, 1e-9 * half)):
            r = contraction(loop, matrix, half)
            if r < 1.0:
                spent = time.perf_counter() - start
                return OriginProof(matrix, r, half.numpy(), (0.0, 0.0), boxes, spent)
        for matrix in _candidates(_jacobian(loop, 1e-9 * half)):
            left = budget.seconds - (time.perf_counter() - start)
            found = _by_stages(loop, matrix, half, budget, left) if left > 0.0 else None
            if found is not None:
                r, inner, levels, more = found
                return OriginProof(matrix, r, inner.numpy(), levels, boxes + more, time.perf_counter() - start)
    return None


def contraction(loop: ClosedLoop, matrix: FloatArray, half_widths: Tensor, cells: int = 8) -> float:
    """Bound ``r`` with ``W(F(x) - F(0)) <= r^2 W(x)`` for every ``x`` in a box around 0, ``W = x' P x``.

    Parameters
    ----------
    matrix
        ``P``, positive definite.
    half_widths
        Of the box, ``(n,)``.
    cells
        Into which each side is cut while slopes are bounded; their hull over the box is what counts.
    """
    low, high = (slopes.numpy() for slopes in _hull(loop, half_widths, cells if len(half_widths) <= 3 else 2))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return np.inf
    try:
        root = np.linalg.cholesky(matrix).T
    except np.linalg.LinAlgError:
        return np.inf
    inverse = np.linalg.inv(root)
    if not np.allclose(inverse @ root, np.eye(len(root)), rtol=0.0, atol=1e-10):
        return np.inf
    middle, radius = 0.5 * (low + high), 0.5 * (high - low)
    norm = np.linalg.norm(root @ middle @ inverse, 2)
    norm += np.linalg.norm(np.abs(root) @ radius @ np.abs(inverse), 2)
    return float(norm * (1.0 + _SLACK) + _SLACK)


def enclosing_box(value: nn.Module, within: Tensor, level: float, refinements: int = 400) -> tuple[Tensor, int]:
    """Half-widths of a box around 0 that holds ``{V <= level}`` within ``B``, and how many boxes that took.

    Parameters
    ----------
    value
        ``V``.
    within
        Half-widths of ``B``, ``(n,)``.
    level
        Of the set.
    refinements
        Times that boxes are cut; the answer is right after any number, and close after many.
    """
    if type(value) is QuadraticLyapunov:
        sides = level * np.diag(np.linalg.inv(value.matrix))
        return torch.minimum(within, torch.as_tensor(np.sqrt(sides) * (1.0 + 1e-9))), 0
    low, high, count = -within[None].clone(), within[None].clone(), 0
    found = within.clone()
    with torch.no_grad():
        for _ in range(refinements):
            # Bounds that are not a number leave nothing out.
            kept = ~(value(AffineBounds.of_boxes(low, high)).low > level * (1.0 + 1e-9))
            count += len(low)
            low, high = low[kept], high[kept]
            if not len(low):
                break
            reach = torch.maximum(low.abs(), high.abs())
            found = reach.amax(0)
            # Cut what reaches farthest in some direction, and what is larger than the whole ought to be.
            far = (reach >= 0.98 * found).any(1) & ((high - low) > 0.02 * found).any(1)
            if not bool(far.any()) or len(low) > 20_000:
                break
            new_low, new_high = split(low[far], high[far], found)
            low, high = torch.cat([low[~far], new_low]), torch.cat([high[~far], new_high])
    return found, count


def _by_stages(
    loop: ClosedLoop, matrix: FloatArray, half: Tensor, budget: Budget, seconds: float
) -> tuple[float, Tensor, tuple[float, float], int] | None:
    """Prove that ``W`` falls from a level that holds the box to one on which the slopes contract."""
    form = QuadraticLyapunov(matrix)
    corners = torch.cartesian_prod(*(torch.stack([-side, side]) for side in half)).reshape(-1, len(half))
    outer = float(form(corners).max()) * (1.0 + 1e-9)
    inner, r = half, np.inf
    for _ in range(20):
        inner = 0.5 * inner
        r = contraction(loop, matrix, inner)
        if r < 1.0:
            break
    if not r < 1.0:
        return None
    # The largest level of W whose set is in the inner box.
    level = float((inner.numpy() ** 2 / np.diag(np.linalg.inv(matrix))).min()) * (1.0 - 1e-6)
    stage = ClosedLoop(loop.plant, loop.controller, form, loop.box, loop.single_precision)
    rate = min(1e-3, 0.1 * (1.0 - r))
    outcome = verify(
        stage,
        Claim(rho=max(outer, 1.01 * level), kappa=rate, c1=level),
        Budget(seconds=seconds, boxes=budget.boxes, batch=budget.batch),
    )
    return (r, inner, (level, outer), outcome.boxes) if outcome.status == "proved" else None


def _jacobian(loop: ClosedLoop, half: Tensor) -> FloatArray:
    low, high = _hull(loop, half, 1)
    return (0.5 * (low + high)).numpy()


def _hull(loop: ClosedLoop, half: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Ends of all slopes over a box around 0, ``(n, n)`` twice."""
    edges = [torch.linspace(-1.0, 1.0, cells + 1, dtype=torch.float64) * side for side in half]
    low = torch.cartesian_prod(*(edge[:-1] for edge in edges)).reshape(-1, len(half))
    high = torch.cartesian_prod(*(edge[1:] for edge in edges)).reshape(-1, len(half))
    least, most = loop.step(SlopeBounds.of_boxes(low, high)).jacobian()
    return least.amin(0), most.amax(0)


def _candidates(jacobian: FloatArray) -> list[FloatArray]:
    """Forms that contract at 0, from one that does so as fast as can be to one that is as round as can be."""
    radius = float(np.abs(np.linalg.eigvals(jacobian)).max())
    if radius >= 1.0 - 1e-9:
        return []
    found: list[FloatArray] = []
    for share in (0.1, 0.3, 0.6, 1.0):
        scaled = jacobian / (radius + share * (1.0 - radius))
        matrix = np.asarray(solve_discrete_lyapunov(scaled.T, np.eye(len(jacobian))), np.float64)
        found.append(0.5 * (matrix + matrix.T))
    return found
