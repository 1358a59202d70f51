"""Chooses the walker's gaits so that every one of them is begun inside its region of attraction.

At an impact, and wherever a plan ends, the planner looks for a gait into whose region of attraction the state falls,
the nearer to the one asked for the better. Where there is none it looks for a *bridge*: a gait angle that is held for
part of a step only, after which there is one. Bridges are predicted with the walker's own dynamics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlstab.controllers.roa.planner import Refinement, choose, violation
from rlstab.controllers.roa.walker.data import BRIDGE_GAITS
from rlstab.envs.hybrid.walker_stride import LONGEST, swing
from rlstab.policies.roa.walker import SLOWEST, WIDEST

FloatArray = NDArray[np.float64]


class Regions(Protocol):
    """Regions of attraction of the gaits: a `WalkerModel`, or anything with its two methods."""

    def value(self, x: Tensor, configuration: Tensor) -> Tensor:
        """``V (n,)`` of states ``(n, 4)`` in gaits ``(n, 1)``."""
        ...

    def level(self, configuration: Tensor) -> Tensor:
        """``rho (n,)`` of gaits ``(n, 1)``."""
        ...


@dataclass(frozen=True)
class PlannerSettings:
    """What is tried, and what counts."""

    gaits: int = 29
    """Gait angles at equal distances from 0.04 to 0.18 rad."""
    bridge_gaits: int = 10
    """Gait angles at equal distances from 0 to 0.36 rad that a bridge may hold; 0: no bridges."""
    bridge_periods: int = 10
    """Control periods between the moments at which a bridge may end."""
    bridge_ends: int = 5
    """Number of those moments."""
    weight: float = 100.0
    """Of the violation, against the squared difference of gait angles (rad^2)."""
    refinement: Refinement | None = None
    """Descent after the grid (the differentiable variant); None: the grid alone."""


class RoaPlanner:
    """See the module.

    Parameters
    ----------
    regions
        Regions of attraction.
    settings
        What is tried.
    """

    def __init__(self, regions: Regions, settings: PlannerSettings | None = None) -> None:
        self.regions, self.settings = regions, settings or PlannerSettings()
        self._gaits = torch.linspace(SLOWEST, WIDEST, self.settings.gaits)[:, None]
        self._low, self._high = torch.tensor([SLOWEST]), torch.tensor([WIDEST])
        # Levels of the grid do not change: what is asked for hundreds of times is computed once.
        with torch.no_grad():
            self._levels = regions.level(self._gaits)

    def plan(self, x: FloatArray, goal: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
        """See `rlstab.controllers.roa.walker.walk.GaitPlanner`."""
        gait, loss, missed = self._best(x, goal)
        periods = np.full(len(x), LONGEST)
        lost = np.flatnonzero(missed > 0.0)
        if len(lost) and self.settings.bridge_gaits:
            held, until, better = self._bridge(x[lost], goal[lost])
            taken = better < loss[lost]
            gait[lost[taken]], periods[lost[taken]] = held[taken], until[taken]
        return gait, periods

    def _best(self, x: FloatArray, goal: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Best gait of each state, its loss, and by how much its region is missed."""
        state, wanted = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(goal, dtype=torch.float32)

        def missed(candidates: Tensor) -> Tensor:
            n, k, _ = candidates.shape
            flat = candidates.reshape(n * k, 1)
            value = self.regions.value(state.repeat_interleave(k, 0), flat).reshape(n, k)
            on_grid = candidates.shape[1] == len(self._levels) and not candidates.requires_grad
            level = self._levels.expand(n, k) if on_grid else self.regions.level(flat).reshape(n, k)
            return violation(value, level)

        def loss(candidates: Tensor) -> Tensor:
            return self.settings.weight * missed(candidates) + (candidates[:, :, 0] - wanted[:, None]).square()

        grid = self._gaits.expand(len(x), -1, -1)
        best = choose(loss, grid, self._low, self._high, self.settings.refinement)
        apart = (best.parameters[:, 0] - wanted).square()
        short = (best.loss - apart) / self.settings.weight
        # What is left of the loss is rounding where nothing is missed.
        short = torch.where(short > 1e-6, short, 0.0)
        return best.parameters[:, 0].double().numpy(), best.loss.double().numpy(), short.double().numpy()

    def _bridge(self, x: FloatArray, goal: FloatArray) -> tuple[FloatArray, NDArray[np.int64], FloatArray]:
        """Best angle to hold, for how many periods, and the loss with which the best gait begins after that."""
        n, settings = len(x), self.settings
        held = np.linspace(*BRIDGE_GAITS, settings.bridge_gaits)
        count = settings.bridge_gaits
        gait, here = np.tile(held, n), np.repeat(x, count, 0)
        going = np.ones(n * count, bool)
        loss = np.full((settings.bridge_ends, n * count), np.inf)
        for index in range(settings.bridge_ends):
            rows = np.flatnonzero(going)
            if not len(rows):
                break
            done = swing(here[rows], gait[rows], settings.bridge_periods)
            here[rows] = done.x
            up = rows[done.upright]
            if len(up):
                loss[index, up] = self._best(here[up], np.repeat(goal, count)[up])[1]
            # A step that ends on the bridge ends the bridge.
            going[rows] = done.upright & ~done.struck
        by_world = loss.reshape(settings.bridge_ends, n, count).transpose(1, 0, 2).reshape(n, -1)
        best = by_world.argmin(1)
        until = settings.bridge_periods * (best // count + 1)
        return held[best % count], until, by_world[np.arange(n), best]
