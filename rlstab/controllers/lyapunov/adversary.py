"""The claim as a loss, and the search for states in which it fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rlstab.envs.plants import Plant
from rlstab.policies.lyapunov import LyapunovNetwork, NetworkFeedback

LEAK = 0.01
"""Share of the gradient that passes where a command is limited, so that a limited command can be unlearned."""

_STEPS, _STEP_SIZE = 12, 0.03
_NEAREST = 2.0
"""Decades: states are drawn from boxes down to a hundredth, since near 0 little is seen of a uniform sample."""


@dataclass(eq=False)
class Pair:
    """Controller and Lyapunov function of a plant in float32, for speed.

    Parameters
    ----------
    plant
        The model.
    controller, lyapunov
        Trained in place.
    level
        Of the set.
    kappa
        Decrease a step that is trained for.
    margin
        Share of the box in which next states must stay.
    """

    plant: Plant
    controller: NetworkFeedback
    lyapunov: LyapunovNetwork
    level: float
    kappa: float
    margin: float

    @property
    def half(self) -> Tensor:
        """Half-widths of the box, ``(n,)``."""
        return torch.tensor(self.plant.box, dtype=torch.float32)

    def parameters(self) -> list[nn.Parameter]:
        """Of both networks."""
        return [*self.controller.parameters(), *self.lyapunov.parameters()]

    def step(self, state: Tensor) -> Tensor:
        """Next states of ``(k, n)``."""
        limits: Any = self.plant.control_low, self.plant.control_high
        low, high = (torch.tensor(limit, dtype=torch.float32) for limit in limits)
        wanted = self.controller(state)
        control = torch.clamp(wanted, low, high)
        beyond = LEAK * (wanted - control)
        control = control + beyond - beyond.detach()
        return torch.stack(tuple(self.plant.step(state.unbind(-1), control.unbind(-1))), -1)

    def outside(self, state: Tensor) -> Tensor:
        """How far states are outside of the inner box, as a share of it, ``(k,)``."""
        return torch.relu(state.abs() / self.half - self.margin).sum(-1)

    def violation(self, state: Tensor) -> Tensor:
        """How far each state is from satisfying the claim, relative to ``V``; 0 where it does, ``(k,)``."""
        following = self.step(state)
        value, next_value = self.lyapunov(state), self.lyapunov(following)
        scale = value + 1e-3 * self.level
        rises = torch.relu((next_value - (1.0 - self.kappa) * value) / scale)
        within = 10.0 * torch.relu(1.0 - value / self.level)
        return torch.minimum(within, rises + 10.0 * self.outside(following))


def uniform(count: int, half: Tensor, generator: torch.Generator) -> Tensor:
    """States of which half are uniform in the box, half in boxes of every size around 0."""
    states = (2.0 * torch.rand(count, len(half), generator=generator) - 1.0) * half
    small = 10.0 ** (-_NEAREST * torch.rand(count - count // 2, 1, generator=generator))
    return torch.cat([states[: count // 2], states[count // 2 :] * small])


def attack(pair: Pair, count: int, generator: torch.Generator) -> Tensor:
    """States ``(count, n)`` from which signed gradients climbed to where the claim fails."""
    half = pair.half
    state = uniform(count, half, generator)
    size = _STEP_SIZE * (state.abs() / half).amax(1, keepdim=True)
    for _ in range(_STEPS):
        state.requires_grad_()
        (gradient,) = torch.autograd.grad(pair.violation(state).sum(), state)
        state = state.detach() + size * half * gradient.sign()
        state = torch.minimum(torch.maximum(state, -half), half)
    return state.detach()
