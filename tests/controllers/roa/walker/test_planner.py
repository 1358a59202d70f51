"""The walker's planner on planted regions, where the best choice is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from rlstab.controllers.roa.planner import Refinement
from rlstab.controllers.roa.walker.planner import PlannerSettings, RoaPlanner
from rlstab.envs.hybrid.walker_gaits import GAITS
from rlstab.envs.hybrid.walker_stride import LONGEST, swing
from rlstab.errors import UserError


class Around:
    """Gaits within 0.02 rad of 0.1 are safe, whatever the state."""

    def value(self, x: Tensor, configuration: Tensor) -> Tensor:
        del x
        return (configuration[:, 0] - 0.1).abs() / 0.02

    def level(self, configuration: Tensor) -> Tensor:
        return torch.ones_like(configuration[:, 0])


class Below:
    """Every gait is safe from where the stance leg has passed an angle, and none before."""

    def __init__(self, q1: float) -> None:
        self._q1 = q1

    def value(self, x: Tensor, configuration: Tensor) -> Tensor:
        return torch.where(x[:, 0] < self._q1, 0.0, 2.0) + 0.0 * configuration[:, 0]

    def level(self, configuration: Tensor) -> Tensor:
        return torch.ones_like(configuration[:, 0])


class Nowhere(Around):
    """The further from 0.06 rad, the worse, and nothing is safe."""

    def value(self, x: Tensor, configuration: Tensor) -> Tensor:
        return 5.0 + (configuration[:, 0] - 0.06).abs() * 100.0


X = GAITS[[7, 7, 7], 1:]


def test_the_safe_gait_nearest_to_the_goal_is_taken():
    goal = np.array([0.15, 0.105, 0.05])
    gait, periods = RoaPlanner(Around()).plan(X, goal)
    np.testing.assert_allclose(gait, [0.12, 0.105, 0.08], atol=1e-6)
    np.testing.assert_array_equal(periods, LONGEST)


def test_descent_goes_between_the_candidates():
    goal = np.array([0.1073])
    plain = RoaPlanner(Around(), PlannerSettings(gaits=8)).plan(X[:1], goal)[0]
    fine = RoaPlanner(Around(), PlannerSettings(gaits=8, refinement=Refinement(100, 2e-4))).plan(X[:1], goal)[0]
    assert abs(plain - goal)[0] > 5e-3
    assert abs(fine - goal)[0] < 5e-4


def test_a_bridge_is_held_until_a_gait_is_safe():
    planner = RoaPlanner(Below(0.05))
    gait, periods = planner.plan(X[:1], np.array([0.13]))
    assert periods[0] in (10, 20, 30, 40, 50)
    assert swing(X[:1], gait, periods).x[0, 0] < 0.05
    # At its end the plan is a gait.
    there = swing(X[:1], gait, periods).x
    then = planner.plan(there, np.array([0.13]))
    np.testing.assert_allclose(then[0], [0.13], atol=1e-6)
    assert then[1][0] == LONGEST


def test_bridges_are_not_asked_for_where_a_gait_is_safe_or_where_they_are_off():
    _, periods = RoaPlanner(Below(1.0)).plan(X, np.full(3, 0.13))
    assert (periods == LONGEST).all()
    gait, periods = RoaPlanner(Nowhere(), PlannerSettings(bridge_gaits=0)).plan(X, np.full(3, 0.13))
    assert (periods == LONGEST).all()
    np.testing.assert_allclose(gait, 0.06, atol=1e-6)


def test_worlds_are_planned_for_together_as_alone():
    x = np.concatenate([X, swing(X, 0.13, [10, 40, 60]).x])
    goal = np.linspace(0.08, 0.16, 6)
    planner = RoaPlanner(Below(0.05))
    together = planner.plan(x, goal)
    for row in range(6):
        alone = planner.plan(x[row : row + 1], goal[row : row + 1])
        assert alone[0][0] == together[0][row]
        assert alone[1][0] == together[1][row]


def test_a_state_that_is_not_finite_is_refused():
    class Broken(Around):
        def value(self, x: Tensor, configuration: Tensor) -> Tensor:
            return torch.full_like(configuration[:, 0], torch.nan)

    with pytest.raises(UserError, match="no candidate of the planner has a finite loss"):
        RoaPlanner(Broken()).plan(X, np.full(3, 0.1))
