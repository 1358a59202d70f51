"""Signed gradient steps in a ball around zero: how the worst small change of an observation is searched for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

Objective: TypeAlias = Callable[[Tensor], Tensor]
"""Values ``(batch,)`` of changes ``(batch, dim)``, each of which decides its own value alone; differentiable."""


def climb(
    objective: Objective,
    start: Tensor,
    radius: float,
    steps: int,
    step: float,
    noise: Callable[[int], Tensor] | None = None,
) -> Tensor:
    """Climb towards the largest value within the ball ``max |change| <= radius``.

    Parameters
    ----------
    objective
        What is made large.
    start
        ``(batch, dim)``; may lie outside of the ball.
    radius
        Of the ball, positive or zero.
    steps
        Number of steps.
    step
        Length of each along every axis.
    noise
        Added to the gradient ``(batch, dim)`` of a step, by its number.

    Returns
    -------
    Tensor
        ``(batch, dim)``: for each row, the best change that was met, the start (moved into the ball) included.
    """
    change = start.detach().clamp(-radius, radius)
    best, highest = change, torch.full(start.shape[:1], -torch.inf, dtype=start.dtype, device=start.device)
    for number in range(steps + 1):
        last = number == steps
        with torch.set_grad_enabled(not last):
            change = change.detach().requires_grad_(not last)
            values = objective(change)
        found = values.detach()
        better = found > highest
        highest = torch.where(better, found, highest)
        best = torch.where(better.unsqueeze(-1), change.detach(), best)
        if last:
            break
        (gradient,) = torch.autograd.grad(values.sum(), change)
        if noise is not None:
            gradient = gradient + noise(number)
        change = (change.detach() + step * gradient.sign()).clamp(-radius, radius)
    return best
