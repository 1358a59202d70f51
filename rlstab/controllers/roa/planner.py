"""Chooses the configuration of the next mode so that the state after the switch lies inside its region of attraction.

A switch is feasible where ``V(x+, c) <= rho(c)`` for what the reset makes of the state. The planner minimises the
violation, and what the task wants besides, over a grid of candidates (*sampling*), or goes on from the grid by gradient
descent (*differentiable*).

References
----------
Meng, Fan (2023). Hybrid systems neural control with region-of-attraction planner. L4DC; arXiv:2303.10327.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rlstab.errors import UserError

Loss = Callable[[Tensor], Tensor]
"""From candidates ``(n, k, p)`` to losses ``(n, k)``."""


@dataclass(frozen=True)
class Refinement:
    """Gradient descent that goes on from the grid, by RMSprop on the least loss of each world."""

    steps: int = 5
    learning_rate: float = 0.05


@dataclass(frozen=True)
class Choice:
    """What was chosen for each of ``n`` worlds."""

    parameters: Tensor
    """``(n, p)``."""
    loss: Tensor
    """``(n,)``."""


def choose(loss: Loss, candidates: Tensor, low: Tensor, high: Tensor, refinement: Refinement | None = None) -> Choice:
    """Choose the best candidate of every world.

    Parameters
    ----------
    loss
        What is minimised; NaN counts as worst.
    candidates
        ``(n, k, p)``, at least one for each world.
    low, high
        Limits of the parameters, broadcast against ``(n, 1, p)``; descent stays within them.
    refinement
        Descent after the grid; None for the grid alone. What it finds is taken only where it is better.

    Raises
    ------
    UserError
        There is no candidate, or no candidate of a world has a finite loss.
    """
    if candidates.ndim != 3 or candidates.shape[1] == 0:
        raise UserError(f"the planner needs candidates (n, k, p) with k of at least one, got {tuple(candidates.shape)}")
    with torch.no_grad():
        best = _least(loss(candidates), candidates)
    if refinement is None or refinement.steps == 0:
        return best
    moving = candidates.detach().clone().requires_grad_()
    optimiser = torch.optim.RMSprop([moving], lr=refinement.learning_rate)
    for _ in range(refinement.steps):
        optimiser.zero_grad()
        values = loss(moving)
        values.where(values.isfinite(), torch.inf).amin(1).sum().backward()
        optimiser.step()
        with torch.no_grad():
            moving.copy_(torch.minimum(torch.maximum(moving, low), high))
    with torch.no_grad():
        refined = _least(loss(moving), moving.detach())
        better = refined.loss < best.loss
        return Choice(
            torch.where(better[:, None], refined.parameters, best.parameters),
            torch.where(better, refined.loss, best.loss),
        )


def violation(value: Tensor, level: Tensor, slack: float = 0.0) -> Tensor:
    """How far ``V`` is above the level less ``slack``, zero inside: the planner's hinge."""
    return torch.relu(value - level + slack)


def _least(values: Tensor, candidates: Tensor) -> Choice:
    values = values.where(values.isfinite(), torch.inf)
    least, index = values.min(1)
    if bool(least.isinf().any()):
        raise UserError("no candidate of the planner has a finite loss: the state or the networks are not finite")
    return Choice(candidates[torch.arange(len(index)), index], least)
