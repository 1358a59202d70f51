"""The safety filter of a control Lyapunov function: the control closest to a wished one that makes ``V`` fall.

For a control-affine system, ``V' = LfV + LgV u``, each state asks for

    ``min |u - u_ref|^2 + p r   subject to   b_k + G_k u <= r,  r >= 0,  u_low <= u <= u_high``

with rows ``b = LfV + rate V`` and ``G = LgV``; ``r`` is by how much the decrease is missed. For ``p`` above twice the
row's multiplier the penalty is exact: ``r > 0`` says that no admissible control decreases ``V`` fast enough.
`solve_clf_qp` is exact and fast for one row, which is the usual case; `ClfQpLayer` takes several rows through
cvxpylayers. Both are differentiable, and `optimality_gap` bounds the error of either, or of anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlstab.errors import UserError

TOLERANCE = 1e-6
"""Largest violation of a constraint, and largest distance from the optimum, that pass as a solution."""


@dataclass(frozen=True)
class ClfQp:
    """A batch of problems; see the module.

    Raises
    ------
    UserError
        Shapes do not fit, a number is not finite, a lower limit is above its upper one, or the penalty is not positive.
    """

    bias: Tensor
    """``LfV + rate V``, ``(batch, rows)``."""
    gain: Tensor
    """``LgV``, ``(batch, rows, inputs)``."""
    reference: Tensor
    """Wished controls ``u_ref (batch, inputs)``."""
    low: Tensor
    """Limits ``(inputs,)`` or ``(batch, inputs)``."""
    high: Tensor
    """Limits ``(inputs,)`` or ``(batch, inputs)``."""
    penalty: float
    """``p``, on the missed decrease."""

    def __post_init__(self) -> None:
        batch, rows = self.bias.shape if self.bias.ndim == 2 else (-1, -1)
        inputs = self.reference.shape[-1] if self.reference.ndim == 2 else -1
        expected = {"gain": [(batch, rows, inputs)], "reference": [(batch, inputs)]}
        expected |= {name: [(inputs,), (batch, inputs)] for name in ("low", "high")}
        if batch < 0 or inputs < 1 or rows < 1:
            raise UserError("a CLF-QP wants bias (batch, rows) and reference (batch, inputs), each of at least one")
        for name, shapes in expected.items():
            found = tuple(getattr(self, name).shape)
            if found not in shapes:
                raise UserError(f"{name} of the CLF-QP must be {' or '.join(map(str, shapes))}, got {found}")
        for name in ("bias", "gain", "reference"):
            if not bool(torch.isfinite(getattr(self, name)).all()):
                raise UserError(f"{name} of the CLF-QP is not finite: look at V and its gradient there")
        if not bool((self.low <= self.high).all()):
            raise UserError("a lower limit of the CLF-QP is above its upper one, or NaN")
        if not 0.0 < self.penalty < float("inf"):
            raise UserError(f"the penalty of the CLF-QP must be positive and finite, got {self.penalty}")

    def missed(self, control: Tensor) -> Tensor:
        """By how much controls ``(batch, inputs)`` miss the decrease in the worst row, at least zero: ``(batch,)``."""
        rows = self.bias + torch.einsum("bri,bi->br", self.gain, control)
        return rows.amax(1).clamp_min(0.0)

    def cost(self, control: Tensor) -> Tensor:
        """Objective of controls with the least ``r`` that they allow, ``(batch,)``."""
        return (control - self.reference).square().sum(1) + self.penalty * self.missed(control)


@dataclass(frozen=True)
class ClfQpSolution:
    """Controls, and by how much they miss the decrease."""

    control: Tensor
    """``(batch, inputs)``."""
    relaxation: Tensor
    """``r (batch,)``: above zero where no admissible control makes ``V`` fall as fast as asked."""


def solve_clf_qp(problem: ClfQp) -> ClfQpSolution:
    """Solve problems of one row exactly, in closed form.

    ``u(nu) = clamp(u_ref - nu G / 2)``, and ``b + G u(nu)`` falls with the multiplier ``nu``, linearly between the
    values at which a component meets a limit. The solution is at the smallest ``nu`` in ``[0, p]`` at which it is not
    positive, or at ``p``. Gradients by autograd are those of the solution wherever it is differentiable.

    Raises
    ------
    UserError
        There are several rows.
    """
    if problem.bias.shape[1] != 1:
        raise UserError(f"the exact CLF-QP has one row, got {problem.bias.shape[1]}: several need ClfQpLayer")
    bias, gain, reference = problem.bias, problem.gain[:, 0], problem.reference
    low, high = problem.low.expand_as(reference), problem.high.expand_as(reference)

    def control(nu: Tensor) -> Tensor:  # (batch, k) -> (batch, k, inputs)
        moved = reference[:, None] - 0.5 * nu[:, :, None] * gain[:, None]
        return torch.minimum(torch.maximum(moved, low[:, None]), high[:, None])

    # Where a component meets a limit; one that does not move meets none.
    moves = gain != 0.0
    slope = torch.where(moves, gain, 1.0)
    ends = [torch.where(moves, 2.0 * (reference - limit) / slope, 0.0) for limit in (low, high)]
    kinks = torch.cat([torch.zeros_like(bias), *ends, torch.full_like(bias, problem.penalty)], 1)
    kinks = kinks.nan_to_num(nan=0.0, posinf=problem.penalty, neginf=0.0).clamp(0.0, problem.penalty).sort(1).values
    residuals = bias + torch.einsum("bki,bi->bk", control(kinks), gain)
    # The last kink at which it is still positive, and the next one.
    positive = residuals > 0.0
    last = (positive.sum(1, keepdim=True) - 1).clamp(0, kinks.shape[1] - 2)
    before, after = kinks.gather(1, last), kinks.gather(1, last + 1)
    above, below = residuals.gather(1, last), residuals.gather(1, last + 1)
    fall = above - below
    inside = before + (after - before) * above / torch.where(fall > 0.0, fall, 1.0)
    nu = torch.where(positive[:, :1], torch.where(positive[:, -1:], kinks[:, -1:], inside), torch.zeros_like(inside))
    chosen = control(nu)[:, 0]
    return ClfQpSolution(chosen, problem.missed(chosen))


class ClfQpLayer:
    """The same problem with several rows, by cvxpylayers.

    The only backend is DIFFCP with SCS at a tolerance of 1e-9: its default tolerance is off by 1e-2 on this very
    problem, and another backend of cvxpylayers 1.2 returns wrong answers without a word. Every solution is checked.

    Parameters
    ----------
    inputs, rows
        Size of the control, and number of rows.
    penalty
        ``p``.
    """

    def __init__(self, inputs: int, rows: int, penalty: float) -> None:
        # Half a dozen seconds of import that who does not need it should not wait for.
        import cvxpy as cp
        from cvxpylayers.torch.cvxpylayer import CvxpyLayer

        u, r = cp.Variable(inputs), cp.Variable()
        bias, gain, reference = cp.Parameter(rows), cp.Parameter((rows, inputs)), cp.Parameter(inputs)
        low, high = cp.Parameter(inputs), cp.Parameter(inputs)
        cost: Any = cp.sum_squares(u - reference) + penalty * r
        constraints: list[Any] = [bias + gain @ u <= r, r >= 0, u >= low, u <= high]
        self._layer: Any = CvxpyLayer(
            cp.Problem(cp.Minimize(cost), constraints),
            parameters=[bias, gain, reference, low, high],
            variables=[u, r],
            solver="DIFFCP",
            solver_args={"eps": 1e-9, "max_iters": 100_000},
        )
        self.inputs, self.rows, self.penalty = inputs, rows, penalty

    def solve(self, problem: ClfQp) -> ClfQpSolution:
        """Solve a batch, in double precision and one after the other: some milliseconds each.

        Raises
        ------
        UserError
            The problem has other sizes or another penalty, or what the solver returns is no solution.
        """
        if (self.inputs, self.rows, self.penalty) != (*problem.gain.shape[:0:-1], problem.penalty):
            raise UserError(
                f"this layer solves problems of {self.rows} rows, {self.inputs} inputs and penalty {self.penalty:g}"
            )
        exact = [tensor.double() for tensor in (problem.bias, problem.gain, problem.reference)]
        limits = [limit.double().expand_as(exact[2]) for limit in (problem.low, problem.high)]
        control, relaxation = self._layer(*exact, *limits)
        check_solution(problem, control.detach(), relaxation.detach())
        dtype = problem.bias.dtype
        return ClfQpSolution(control.to(dtype), relaxation.to(dtype))


def check_solution(problem: ClfQp, control: Tensor, relaxation: Tensor, tolerance: float = TOLERANCE) -> None:
    """Refuse what is no solution: solvers that return wrong answers without a word exist.

    Parameters
    ----------
    problem, control, relaxation
        What was asked, and what a solver said: ``(batch, inputs)`` and ``(batch,)``.
    tolerance
        Largest violation of a constraint, and largest distance of the control from the optimum.

    Raises
    ------
    UserError
        A constraint is violated, or the control may be further from the optimum.
    """
    if not bool(torch.isfinite(control).all() & torch.isfinite(relaxation).all()):
        raise UserError("the solver of the CLF-QP returned NaN or infinity: look at the scale of V and its gradient")
    rows = problem.bias + torch.einsum("bri,bi->br", problem.gain.to(control.dtype), control)
    excess = {
        "the missed decrease is larger than r": rows.amax(1) - relaxation,
        "r is negative": -relaxation,
        "a control is above its limit": (control - problem.high).amax(1),
        "a control is below its limit": (problem.low - control).amax(1),
    }
    scale = 1.0 + problem.bias.abs().amax(1) + problem.reference.abs().amax(1)
    for what, violation in excess.items():
        if bool((violation > tolerance * scale).any()):
            raise UserError(f"the solver of the CLF-QP returned no solution: {what} by {violation.max():.2g}")
    admissible = torch.minimum(torch.maximum(control, problem.low), problem.high)
    distance = optimality_gap(problem, admissible).clamp_min(0.0).sqrt()
    # What a violation within the tolerance may have saved in cost; the distance is the square root of a cost.
    allowed = tolerance + (2.0 * (problem.penalty + 1.0) * tolerance * scale).sqrt()
    if bool((distance > allowed).any()):
        raise UserError(f"the solver of the CLF-QP returned no solution: up to {distance.max():.2g} from the optimum")


def optimality_gap(problem: ClfQp, control: Tensor) -> Tensor:
    """Bound how much admissible controls cost above the optimum, ``(batch,)``; its root bounds the distance to it.

    By weak duality: for multipliers ``nu >= 0`` of sum at most ``p``, ``min_u |u - u_ref|^2 + nu (b + G u)`` over the
    limits, which is in closed form, is below the optimum. Multipliers are fitted to the stationarity of ``control``, so
    that the gap of a solution is close to zero. The cost grows at least by the squared distance from the optimum.
    """
    from scipy.optimize import nnls

    control = control.double()
    wished, bias, gain = problem.reference.double(), problem.bias.double(), problem.gain.double()
    low, high = problem.low.double().expand_as(wished), problem.high.double().expand_as(wished)
    rows = bias + torch.einsum("bri,bi->br", gain, control)
    worst = rows.amax(1, keepdim=True).clamp_min(0.0)
    multipliers = torch.zeros_like(bias)
    slack = 1e-5 * (1.0 + rows.abs().amax(1, keepdim=True))
    active, free = rows >= worst - slack, (control > low + 1e-9) & (control < high - 1e-9)
    for index in range(len(bias)):
        chosen, moving = active[index].nonzero()[:, 0], free[index].nonzero()[:, 0]
        if len(chosen) == 0:
            continue
        matrix = gain[index][chosen][:, moving].T.numpy()
        target = (2.0 * (wished[index] - control[index]))[moving].numpy()
        if worst[index] > slack[index]:  # Some decrease is missed: the multipliers use up the penalty.
            weight = 1.0 + float(np.abs(matrix).max(initial=0.0))
            matrix = np.vstack([matrix, np.full((1, len(chosen)), weight)])
            target = np.append(target, weight * problem.penalty)
        if len(target):
            multipliers[index, chosen] = torch.from_numpy(nnls(matrix, target)[0])
    total = multipliers.sum(1, keepdim=True)
    multipliers = multipliers * (problem.penalty / total.clamp_min(problem.penalty))
    best = wished - 0.5 * torch.einsum("bri,br->bi", gain, multipliers)
    best = torch.minimum(torch.maximum(best, low), high)
    lower = (best - wished).square().sum(1)
    lower = lower + (multipliers * (bias + torch.einsum("bri,bi->br", gain, best))).sum(1)
    cost = (control - wished).square().sum(1) + problem.penalty * worst[:, 0]
    return cost - lower
