"""Proof by branch and bound that a Lyapunov function decreases along every step within one of its level sets.

The claim, for ``B`` a box around 0, levels ``0 <= c1 < rho`` and a rate ``kappa``::

    x in B, V(x) <= rho         =>  F(x) in B
    x in B, c1 < V(x) <= rho    =>  V(F(x)) <= (1 - kappa) V(x)
    x in B, V(x) <= c1          =>  V(F(x)) <= c1.

So every trajectory from ``{V <= rho}`` stays in it, is in ``{V <= c1}`` after at most ``ln(rho/c1)/-ln(1-kappa)`` steps
and stays there. Without ``c1`` nothing can be proved at 0 itself: a *hole* around 0 is left out then, as most published
tools do, which proves neither that trajectories come near 0 nor that they stay there.

References
----------
Yang et al. (2024), arXiv:2404.07956, for the claim; Bunel et al. (2018), arXiv:1711.00455, for branch and bound.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlstab.analysis.certificates.lyapunov.bounds import AffineBounds
from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.errors import UserError
from rlstab.policies.lyapunov import QuadraticLyapunov

Status: TypeAlias = Literal["proved", "refuted", "unknown"]
"""``proved``: no box is open. ``refuted``: there is a counterexample. ``unknown``: the budget ended first."""

MARGIN = 1e-9
"""Share of ``rho`` by which inequalities must hold, and by which they must fail in a counterexample: far more than
float64 loses in an evaluation, so that what is proved also holds of the map as it is computed."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What is to be proved of a loop; see the module.

    Raises
    ------
    UserError
        A number is out of range.
    """

    rho: float
    """Outer level."""
    kappa: float = 1e-3
    """Decrease a step, relative."""
    c1: float = 0.0
    """Inner level; 0 for none. Below a millionth of ``rho`` the margin for rounding leaves nothing to prove."""
    hole: float = 0.0
    """Half-width of the box around 0 that is left out, as a share of ``B``."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rho) and self.rho > 0.0):
            raise UserError(f"rho must be positive and finite, got {self.rho}")
        if not 0.0 <= self.c1 < self.rho:
            raise UserError(f"c1 must be at least 0 and below rho, got {self.c1} and {self.rho}")
        if not 0.0 < self.kappa < 1.0:
            raise UserError(f"kappa must be between 0 and 1, got {self.kappa}")
        if not 0.0 <= self.hole < 1.0:
            raise UserError(f"hole is a share of the box, at least 0 and below 1, got {self.hole}")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When a proof is given up.

    Raises
    ------
    UserError
        A number is not positive.
    """

    seconds: float = 60.0
    boxes: int = 20_000_000
    batch: int = 8192
    """Boxes bounded at a time; more is not faster once their coefficients leave the processor's cache."""

    def __post_init__(self) -> None:
        if not self.seconds > 0.0 or self.boxes < 1 or self.batch < 1:
            raise UserError("seconds, boxes and batch of a budget must be positive")


@dataclass(frozen=True, eq=False)
class Counterexample:
    """A state that breaks the claim, by plain evaluation in float64."""

    state: NDArray[np.float64]
    value: float
    """``V(x)``."""
    next_state: NDArray[np.float64]
    next_value: float
    """``V(F(x))``."""
    reason: str
    """Which part of the claim is broken."""


class Verification(NamedTuple):
    """How a proof ended."""

    status: Status
    counterexample: Counterexample | None
    boxes: int
    """Bounded in all."""
    open_boxes: int
    """Left undecided; 0 if proved."""
    seconds: float


def verify(loop: ClosedLoop, claim: Claim, budget: Budget | None = None) -> Verification:
    """Decide a claim, or give up when the budget is spent.

    Parameters
    ----------
    loop
        Of ``n`` states; two or three take seconds, six hours.
    claim
        What to prove.
    budget
        Time and boxes; 60 s if not given.

    Returns
    -------
    Verification
        ``proved`` only if every box is closed.

    Raises
    ------
    UserError
        The hole is not strictly within ``{V <= rho}``, as far as bounds tell: too little would be claimed.
    """
    budget = Budget() if budget is None else budget
    start = time.perf_counter()
    with torch.no_grad():
        _require_small_hole(loop, claim)
        found = find_counterexample(loop, claim, loop.sample(4096, seed=0))
        if found is not None:
            return Verification("refuted", found, 0, 0, time.perf_counter() - start)
        frame = frame_of(loop, claim)
        low, high = grid(-frame.half, frame.half, 16 if len(frame.half) <= 2 else 4)
        boxes = 0
        while len(low):
            if time.perf_counter() - start > budget.seconds or boxes >= budget.boxes:
                return Verification("unknown", None, boxes, len(low), time.perf_counter() - start)
            # The youngest first: memory stays small, and a counterexample is found by going deep.
            cut = max(0, len(low) - budget.batch)
            part_low, part_high = low[cut:], high[cut:]
            boxes += len(part_low)
            is_open, _ = undecided(loop, claim, frame.state(part_low, part_high))
            part_low, part_high = part_low[is_open], part_high[is_open]
            found = find_counterexample(loop, claim, frame.centres(part_low, part_high))
            if found is not None:
                return Verification("refuted", found, boxes, cut + len(part_low), time.perf_counter() - start)
            new_low, new_high = split(part_low, part_high, frame.half)
            if len(new_low) and bool(((new_high - new_low) <= 1e-13 * frame.half).any()):
                return Verification("unknown", None, boxes, cut + len(part_low), time.perf_counter() - start)
            low, high = torch.cat([low[:cut], new_low]), torch.cat([high[:cut], new_high])
    return Verification("proved", None, boxes, 0, time.perf_counter() - start)


def _require_small_hole(loop: ClosedLoop, claim: Claim) -> None:
    """Refuse a hole that reaches out of the set: in the end it would hold all of it, and nothing would be claimed."""
    if claim.hole == 0.0:
        return
    half = claim.hole * loop.half_widths
    low, high = grid(-half, half, 16 if len(half) <= 2 else 4)
    if not bool((loop.value(AffineBounds.of_boxes(low, high)).high < claim.rho).all()):
        raise UserError(
            f"the hole, {claim.hole:g} of the box, is not shown to lie within V <= {claim.rho:g}: make it smaller"
        )


def violations(loop: ClosedLoop, claim: Claim, states: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """By how much states break a claim, by plain evaluation.

    Parameters
    ----------
    states
        ``(k, n)``.

    Returns
    -------
    excess
        ``(k,)``: of ``V`` after the step over what is allowed; infinite where the next state is outside of ``B``, minus
        infinity where the claim holds or is not about the state.
    value, following, next_value
        ``V (k,)``, next states ``(k, n)``, and ``V`` there ``(k,)``.
    """
    with torch.no_grad():
        value, following = loop.value(states), loop.step(states)
        next_value = loop.value(following)
    margin = MARGIN * claim.rho
    concerned = loop.inside(states) & (value <= claim.rho) & ~(states.abs() <= claim.hole * loop.half_widths).all(-1)
    leaves = ~loop.inside(following)
    allowed = torch.where(value > claim.c1, (1.0 - claim.kappa) * value, claim.c1)
    # Not a number is a violation too.
    excess = torch.where(next_value <= allowed + margin, -torch.inf, (next_value - allowed).nan_to_num(torch.inf))
    excess = torch.where(concerned, torch.where(leaves, torch.inf, excess), -torch.inf)
    return excess, value, following, next_value


def find_counterexample(loop: ClosedLoop, claim: Claim, states: Tensor) -> Counterexample | None:
    """The state that breaks the claim most, by plain evaluation; None if none of them does.

    Parameters
    ----------
    states
        ``(k, n)``; those outside of ``B`` are not counted.
    """
    if not len(states):
        return None
    excess, value, following, next_value = violations(loop, claim, states)
    worst = int(excess.argmax())
    if excess[worst] == -torch.inf:
        return None
    if not loop.inside(following[worst]):
        reason = "the next state is outside of the box"
    elif value[worst] > claim.c1:
        reason = f"V falls by less than {claim.kappa:g} of it"
    else:
        reason = "the next state is outside of the inner level set"
    return Counterexample(
        states[worst].numpy(), float(value[worst]), following[worst].numpy(), float(next_value[worst]), reason
    )


def split(low: Tensor, high: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Halve boxes ``(k, n)`` along the side that is widest relative to ``scale (n,)``; halves share their face."""
    widest = ((high - low) / scale).argmax(1, keepdim=True)
    middle = 0.5 * (low + high).gather(1, widest)
    left_high, right_low = high.scatter(1, widest, middle), low.scatter(1, widest, middle)
    return torch.cat([low, right_low]), torch.cat([left_high, high])


class Frame(NamedTuple):
    """Coordinates ``y`` with ``x = T y`` in which boxes are cut; ``T`` is None where they are the state's own."""

    transform: Tensor | None
    half: Tensor
    """Half-widths of a box of ``y`` that holds the set the claim is about, ``(n,)``."""

    def state(self, low: Tensor, high: Tensor) -> AffineBounds:
        """States over boxes of ``y``."""
        own = AffineBounds.of_boxes(low, high)
        return own if self.transform is None else own.linear(self.transform)

    def centres(self, low: Tensor, high: Tensor) -> Tensor:
        """States in the middle of boxes of ``y``, ``(k, n)``."""
        middle = 0.5 * (low + high)
        return middle if self.transform is None else middle @ self.transform.T


def frame_of(loop: ClosedLoop, claim: Claim) -> Frame:
    """For ``V = |L' x|^2``, ``y = L' x``, in which its level sets are round however long they are in ``x``."""
    # Not of a subclass, whose V may be another.
    if type(loop.lyapunov) is QuadraticLyapunov:
        root = loop.lyapunov.factor.T
        transform = torch.linalg.inv(root)
        # |L' T - I| <= 1e-9 makes |y| <= |L' x| (1 + 2e-9): the box holds the set whatever the rounding of T.
        error = float((root @ transform - torch.eye(len(root), dtype=torch.float64)).abs().sum())
        if error <= 1e-9:
            side = math.sqrt(claim.rho) * (1.0 + 1e-6)
            return Frame(transform, torch.full((len(root),), side, dtype=torch.float64))
    return Frame(None, loop.half_widths)


def undecided(loop: ClosedLoop, claim: Claim, state: AffineBounds) -> tuple[Tensor, Tensor]:
    """Which of ``k`` boxes the bounds do not decide, ``(k,)``, and what ``V`` is at least on each, ``(k,)``."""
    half = loop.half_widths[:, None]
    in_hole = torch.maximum(state.low.abs(), state.high.abs()).le(claim.hole * half).all(0)
    outside = ((state.low > half) | (state.high < -half)).any(0)
    value = loop.value(state)
    # A box is left alone only if V is above rho on all of it, by more than evaluation loses. Bounds that are not a
    # number, as after an overflow, decide nothing: hence not "at most rho", which they would fail.
    is_open = ~(value.low > claim.rho * (1.0 + MARGIN)) & ~in_hole & ~outside
    rows = is_open.nonzero().squeeze(1)
    if len(rows):
        is_open[rows] = ~_decided(loop, claim, state.select(rows), value.select(rows))
    return is_open, torch.where(value.low.isnan(), -torch.inf, value.low)


def _decided(loop: ClosedLoop, claim: Claim, state: AffineBounds, value: AffineBounds) -> Tensor:
    """Which of ``k`` boxes satisfy the claim everywhere, ``(k,)``; comparisons fail for what is not a number."""
    following, margin = loop.step(state), MARGIN * claim.rho
    next_value = loop.value(following)
    reach = (torch.maximum(following.low.abs(), following.high.abs()) <= (1.0 - 1e-12) * loop.half_widths[:, None]).all(
        0
    )
    change = next_value - (1.0 - claim.kappa) * value
    # Either V falls all over the box, or the next value is low enough whatever V is.
    falls = torch.minimum(change.high, next_value.high - (1.0 - claim.kappa) * value.low) <= -margin
    falls |= next_value.high <= (1.0 - claim.kappa) * claim.c1 - margin
    stays = (value.high <= claim.c1) & (next_value.high <= claim.c1 - margin)
    return reach & (falls | stays)


def grid(low: Tensor, high: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Equal boxes, ``cells`` a side, that share their faces exactly: ``(cells^n, n)`` twice."""
    edges = [torch.linspace(float(a), float(b), cells + 1, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
    for edge, first, last in zip(edges, low, high, strict=True):
        edge[0], edge[-1] = first, last
    lows = torch.cartesian_prod(*(edge[:-1] for edge in edges)).reshape(-1, len(low))
    highs = torch.cartesian_prod(*(edge[1:] for edge in edges)).reshape(-1, len(low))
    return lows, highs
