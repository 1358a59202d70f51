"""Chooses where the piece that begins shall end, and how fast to drive before and after, so that both begin well.

At every switch three numbers are free: how far the next node is moved across the road, and the reference's speed on the
piece that begins and on the one after it. The planner wants both pieces to begin inside their level set, and what is
left to be good: little squared error to come, and little time.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rlstab.controllers.roa.planner import Choice, Refinement, choose, violation
from rlstab.envs.hybrid.arrays import wrap
from rlstab.envs.hybrid.car import to_error
from rlstab.errors import UserError
from rlstab.policies.roa.car import STARTS, quadratic

FEASIBLE = 1e-6
"""Violation below which a candidate counts as inside both level sets: what rounding leaves."""


class Modes(Protocol):
    """What the planner asks of the modes: networks, or functions made by hand."""

    def factor(self, configuration: Tensor, /) -> Tensor:
        """``Q (n, 7, 7)`` of ``V = |Q x|^2 / 2``, by friction and speed ``(n, 2)``."""
        ...

    def level(self, configuration: Tensor, /) -> Tensor:
        """Level of each, ``(n,)``; infinite where none is known."""
        ...


@dataclass(frozen=True)
class Scene:
    """``n`` cars at the beginning of a piece, float64 but for what networks read."""

    world: Tensor
    """``(n, 7)``, see `rlstab.envs.hybrid.car.to_world`."""
    start: Tensor
    """Where the reference begins, ``(n, 2)`` m."""
    node: Tensor
    """End of the piece on the road, ``(n, 2)`` m."""
    following: Tensor
    """End of the piece after it, ``(n, 2)`` m; without meaning on the last."""
    across: Tensor
    """Unit vector to the left of the road's piece, ``(n, 2)``."""
    friction: Tensor
    """Of the piece and of the one after it, ``(n, 2)``."""
    last: Tensor
    """``(n,)`` bool: there is no piece after it, and its end is not moved."""


@dataclass(frozen=True)
class _Known:
    """``V`` and level of each candidate's two modes."""

    here: Tensor
    """``Q`` of the piece that begins, ``(n, k, 7, 7)``."""
    there: Tensor
    """``Q`` of the one after it, ``(n, k, 7, 7)``."""
    here_level: Tensor
    there_level: Tensor


@dataclass(frozen=True, kw_only=True)
class CarPlanner:
    """The *sampling* planner, and with ``refinement`` the *differentiable* one.

    The loss is ``w (violation of both level sets and of `STARTS`) + V_here + V_there + time_weight (seconds) / 2``.
    ``V`` is half the squared error still to come, so that the second part is the benchmark's two figures, squared error
    and time.

    Raises
    ------
    UserError
        A number is out of range.

    References
    ----------
    Meng, Fan (2023), arXiv:2303.10327. They minimise the violation alone; what is left open is the first of a list.
    """

    modes: Modes
    shift: float = 1.0
    """Farthest that a node is moved to either side, m."""
    slowest: float = 3.0
    """Lowest speed of a reference, m/s."""
    fastest: float = 15.0
    """Highest speed of a reference, m/s."""
    time_weight: float = 0.2
    """Squared error that a second is worth, in units of the error's norm squared."""
    violation_weight: float = 10.0
    """``w``."""
    shifts: int = 11
    """Points of the grid across the road."""
    speeds: int = 16
    """Points of the grid for each speed, even on a log scale."""
    refinement: Refinement | None = None
    """Descent that goes on from the best point."""

    def __post_init__(self) -> None:
        if not 0.0 < self.slowest <= self.fastest < np.inf:
            raise UserError(f"speeds must be positive and in order, got {self.slowest} to {self.fastest} m/s")
        if min(self.shift, self.time_weight, self.violation_weight) < 0.0 or min(self.shifts, self.speeds) < 1:
            raise UserError("the planner's shift and weights must not be negative, and its grid must have points")

    def plan(self, scene: Scene) -> Choice:
        """Choose shift (m), speed (m/s) and next speed of every car: parameters ``(n, 3)``."""
        device, count = scene.world.device, len(scene.world)
        low = torch.tensor([-self.shift, self.slowest, self.slowest], dtype=torch.float64, device=device)
        high = torch.tensor([self.shift, self.fastest, self.fastest], dtype=torch.float64, device=device)
        candidates, speeds, indices = (part.to(device) for part in self._grid)
        with torch.no_grad():
            known = self._of_grid(scene, speeds, indices)
        best = choose(lambda some: self._loss(scene, some, known), candidates.expand(count, -1, -1), low, high)
        if self.refinement is None:
            return best

        def loss(some: Tensor) -> Tensor:
            return self._loss(scene, some, self._of(scene, some))

        # Only the best point feels the gradient of the least loss, so that the others need not be carried along.
        return choose(loss, best.parameters[:, None], low, high, self.refinement)

    def violation(self, scene: Scene, parameters: Tensor) -> Tensor:
        """By how much choices ``(n, 3)`` miss the level sets and `STARTS`, ``(n,)``; see `FEASIBLE`."""
        candidates = parameters[:, None]
        return self._terms(scene, candidates, self._of(scene, candidates))[0][:, 0]

    @functools.cached_property
    def _grid(self) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates ``(1, k, 3)``, speeds, and which of these each candidate has before and after, ``(2, k)``."""
        shifts = torch.linspace(-self.shift, self.shift, self.shifts, dtype=torch.float64)
        speeds = torch.logspace(np.log10(self.slowest), np.log10(self.fastest), self.speeds, dtype=torch.float64)
        index = torch.arange(self.speeds)
        which, before, after = torch.cartesian_prod(torch.arange(self.shifts), index, index).T
        candidates = torch.stack([shifts[which], speeds[before], speeds[after]], 1)[None]
        return candidates, speeds, torch.stack([before, after])

    def _of_grid(self, scene: Scene, speeds: Tensor, indices: Tensor) -> _Known:
        """Ask once for each speed."""
        count = len(scene.world)
        factors, levels = [], []
        for friction in scene.friction.unbind(1):
            pairs = torch.cartesian_prod(friction, speeds).to(torch.float32)
            factors.append(self.modes.factor(pairs).reshape(count, len(speeds), 7, 7))
            levels.append(self.modes.level(pairs).reshape(count, len(speeds)))
        i, j = indices
        return _Known(factors[0][:, i], factors[1][:, j], levels[0][:, i], levels[1][:, j])

    def _of(self, scene: Scene, candidates: Tensor) -> _Known:
        count, number = candidates.shape[:2]
        found: list[Tensor] = []
        for friction, speed in zip(scene.friction.unbind(1), candidates[:, :, 1:].unbind(2), strict=True):
            pairs = torch.stack([friction[:, None].expand_as(speed), speed], 2).reshape(-1, 2).to(torch.float32)
            found.append(self.modes.factor(pairs).reshape(count, number, 7, 7))
            found.append(self.modes.level(pairs).reshape(count, number))
        return _Known(found[0], found[2], found[1], found[3])

    def _loss(self, scene: Scene, candidates: Tensor, known: _Known) -> Tensor:
        missed, effort = self._terms(scene, candidates, known)
        return self.violation_weight * missed + effort

    def _terms(self, scene: Scene, candidates: Tensor, known: _Known) -> tuple[Tensor, Tensor]:
        """Violation, and squared error with time, ``(n, k)`` each."""
        shift, speed, next_speed = candidates.unbind(2)
        goes_on = ~scene.last[:, None]
        shift = torch.where(goes_on, shift, 0.0 * shift)
        node = scene.node[:, None] + shift[:, :, None] * scene.across[:, None]
        here, there = node - scene.start[:, None], scene.following[:, None] - node
        heading, turned = torch.atan2(here[..., 1], here[..., 0]), torch.atan2(there[..., 1], there[..., 0])
        start = scene.start[:, None].expand_as(node)
        reference = torch.cat([start, heading[..., None], speed[..., None]], 2)
        count, number = speed.shape
        world = scene.world[:, None].expand(-1, number, -1).reshape(-1, 7)
        x = to_error(world, reference.reshape(-1, 4)).reshape(count, number, 7)
        zero = torch.zeros_like(speed)
        # Where the car would be at the switch, had it come to its reference.
        settled = torch.stack([zero, zero, zero, speed - next_speed, wrap(heading - turned), zero, zero], 2)
        value, next_value = (
            quadratic(factor, state.to(factor.dtype)).double()
            for factor, state in ((known.here, x), (known.there, settled))
        )
        starts = x.new_tensor(STARTS)
        outside = [torch.relu(state.abs() / starts - 1.0).sum(2) for state in (x, settled)]
        missed = violation(value, known.here_level.double()) + outside[0]
        seconds = here.norm(dim=2) / speed
        further = violation(next_value, known.there_level.double()) + outside[1]
        effort = value + 0.5 * self.time_weight * seconds
        next_effort = next_value + 0.5 * self.time_weight * there.norm(dim=2) / next_speed
        return missed + goes_on * further, effort + goes_on * next_effort
