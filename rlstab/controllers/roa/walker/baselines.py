"""What the walker's planner is compared with: the gait asked for at once, look-ahead by simulation, and no network."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlstab.controllers.roa.levels import measured_level
from rlstab.controllers.roa.walker.data import gait_states, judge, sample_states
from rlstab.envs.hybrid.walker_stride import LONGEST, Swung, steps, swing
from rlstab.policies.base import Policy
from rlstab.policies.roa.walker import SLOWEST, WIDEST, WalkerModel

FloatArray = NDArray[np.float64]


class GoalAtOnce:
    """The gait asked for from the first step on."""

    def plan(self, x: FloatArray, goal: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
        """See `rlstab.controllers.roa.walker.walk.GaitPlanner`."""
        return goal.copy(), np.full(len(x), LONGEST)


class LookAhead:
    """The gait angle nearest to the one asked for whose next two steps succeed in simulation; without one, the goal.

    Parameters
    ----------
    gaits
        Candidates at equal distances from 0.04 to 0.18 rad.
    ahead
        Steps that are simulated.
    """

    def __init__(self, gaits: int = 29, ahead: int = 2) -> None:
        self._gaits, self._ahead = np.linspace(SLOWEST, WIDEST, gaits), ahead

    def plan(self, x: FloatArray, goal: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
        """See `rlstab.controllers.roa.walker.walk.GaitPlanner`."""
        n, k = len(x), len(self._gaits)
        _, walking = steps(np.repeat(x, k, 0), np.tile(self._gaits, n), self._ahead)
        apart = np.abs(self._gaits[None] - goal[:, None])
        best = np.where(walking.reshape(n, k), apart, np.inf)
        found = np.isfinite(best).any(1)
        return np.where(found, self._gaits[best.argmin(1)], goal), np.full(n, LONGEST)


class SimulatedMpc:
    """Model-predictive control over the gait angles of the next two steps, every pair of which is simulated.

    The cost is the squared difference of ``q1`` after both impacts to the goal's (rad^2), and 1 for each step that
    fails. A third step in the second gait must succeed, too: without it plans end in states from which none does.

    Parameters
    ----------
    gaits
        Candidates of each step, at equal distances from 0.04 to 0.18 rad.
    """

    def __init__(self, gaits: int = 9) -> None:
        self._gaits = np.linspace(SLOWEST, WIDEST, gaits)

    def plan(self, x: FloatArray, goal: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
        """See `rlstab.controllers.roa.walker.walk.GaitPlanner`."""
        n, k = len(x), len(self._gaits)
        wanted = gait_states(goal)[:, 0]
        first = swing(np.repeat(x, k, 0), np.tile(self._gaits, n))
        good = np.flatnonzero(first.struck & first.upright)
        cost = np.full((n * k, k), 3.0)
        if len(good):
            after, walking = steps(np.repeat(first.x[good], k, 0), np.tile(self._gaits, len(good)), 2)
            target = np.repeat(np.repeat(wanted, k)[good], k)
            off = np.where(walking, (after[1, :, 0] - target) ** 2, 1.0)
            cost[good] = (first.x[good, 0] - np.repeat(wanted, k)[good])[:, None] ** 2 + off.reshape(-1, k)
        # A small part for the angle itself: of equal plans the one that needs least is taken.
        best = cost.min(1).reshape(n, k) + 1e-6 * (self._gaits[None] - goal[:, None]) ** 2
        return self._gaits[best.argmin(1)], np.full(n, LONGEST)


class OrbitDistance:
    """Regions of attraction without a network: squared distance to the gait's orbit, at levels that roll-outs show.

    Parameters
    ----------
    orbits
        For its table of orbits and its units; no weight of it is used.
    rng
        Of the roll-outs.
    starts
        States in which each of 29 gaits is begun.
    """

    def __init__(self, orbits: WalkerModel, rng: np.random.Generator, starts: int = 400) -> None:
        self._orbits = orbits
        gaits = np.linspace(SLOWEST, WIDEST, 29)
        drawn = judge(sample_states(rng, len(gaits) * starts), np.repeat(gaits, starts))
        values = self.value(torch.as_tensor(drawn.x), torch.as_tensor(drawn.gait[:, None])).numpy()
        shape = (len(gaits), starts)
        self._levels = torch.as_tensor(measured_level(values.reshape(shape), drawn.stable.reshape(shape))[0])

    @torch.no_grad()
    def value(self, x: Tensor, configuration: Tensor) -> Tensor:
        """See `rlstab.controllers.roa.walker.planner.Regions`."""
        _, reference = self._orbits.nearest(x.float(), configuration.float())
        return ((x - reference) / self._orbits.units).square().sum(1)

    def level(self, configuration: Tensor) -> Tensor:
        """See `rlstab.controllers.roa.walker.planner.Regions`; that of the nearest gait that was measured."""
        row = (configuration[:, 0] - SLOWEST) / (WIDEST - SLOWEST) * (len(self._levels) - 1)
        return self._levels[row.round().long().clamp(0, len(self._levels) - 1)].to(configuration.dtype)


class Simulated:
    """Regions of attraction by simulation: 0 where the walker stays in the gait for some steps, 2 where it falls.

    What a planner could do at best that judges as the labels of training do.

    Parameters
    ----------
    count
        Steps that are simulated.
    """

    def __init__(self, count: int = 5) -> None:
        self._count = count

    def value(self, x: Tensor, configuration: Tensor) -> Tensor:
        """See `rlstab.controllers.roa.walker.planner.Regions`."""
        _, walking = steps(x.double().numpy(), configuration[:, 0].double().numpy(), self._count)
        return torch.where(torch.as_tensor(walking), 0.0, 2.0)

    def level(self, configuration: Tensor) -> Tensor:
        """See `rlstab.controllers.roa.walker.planner.Regions`."""
        return torch.ones_like(configuration[:, 0])


class LearnedTorque:
    """A policy trained in the environment, which observes the state and the gait asked for and gives torques.

    Parameters
    ----------
    policy
        Which.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def advance(self, x: FloatArray, goal: FloatArray, longest: NDArray[np.int64]) -> Swung:
        """See `rlstab.controllers.roa.walker.walk.Walking`."""
        return swing(x, goal, longest, self.torque)

    def torque(self, x: FloatArray, goal: FloatArray) -> FloatArray:
        """Torques ``(n,)`` for the next control period, N m."""
        observation = np.concatenate([x, goal[:, None]], 1).astype(np.float32)
        action, _ = self._policy.predict(observation, deterministic=True)
        return np.asarray(action, np.float64)[:, 0]
