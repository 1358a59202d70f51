"""Cases in which the best reference is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlstab.controllers.roa.planner import Refinement
from rlstab.controllers.roa.pogobot.planner import CorridorPlanner, PlannerSettings
from rlstab.envs.hybrid.corridor import Corridor
from rlstab.errors import UserError
from rlstab.policies.roa.pogobot import PredictedHop


class Puppet:
    """Reaches every reference in one hop, standing for no time; where the set is narrow, only near ones are in it."""

    def __init__(self, radius: float = 100.0) -> None:
        self.radius = radius

    def control(self, x, configuration):
        # Only the foot's place depends on the angle, and that not much.
        self._aim = configuration
        return torch.zeros_like(x)

    def predict(self, x, control):
        falling = (0.2 * (x[:, 1] - 1.0).clamp(min=1e-6)).sqrt()
        speed, height = self._aim.unbind(-1)
        rising = (0.2 * (height - 1.0).clamp(min=1e-6)).sqrt()
        foot = x[:, 0] * falling
        return PredictedHop(foot + speed * rising, speed, height, falling, rising, foot, 0.0 * foot)

    def value(self, x, configuration):
        return (x - configuration).square().sum(-1)

    def level(self, configuration):
        return 0.0 * configuration[:, 0] + self.radius**2


def corridors(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(Corridor(np.array(rows)).configuration())[None]


LEVEL = corridors([9.0, 0.0, 3.0, 1.0], [9.0, 0.0, 3.0, 1.0])
LOWERED = corridors([3.0, 0.0, 3.0, 1.0], [9.0, 0.0, 1.5, 1.0])
APEX = torch.tensor([[1.4, 1.0, 1.8]]).double()


def test_without_trouble_the_segments_own_reference_is_taken() -> None:
    choice = CorridorPlanner(Puppet()).plan(APEX, LEVEL)
    torch.testing.assert_close(choice.parameters, torch.tensor([[1.0, 1.8]]).double())
    assert float(choice.loss) == 0.0


def test_a_reference_that_is_held_is_left_only_for_a_gain() -> None:
    planner = CorridorPlanner(Puppet())
    near = torch.tensor([[1.1, 1.8]]).double()
    torch.testing.assert_close(planner.plan(APEX, LEVEL, near).parameters, near)
    far = torch.tensor([[1.5, 1.8]]).double()
    torch.testing.assert_close(planner.plan(APEX, LEVEL, far).parameters[:, 0], torch.ones(1).double())


def test_before_a_lower_ceiling_the_best_of_the_candidates_that_pass_is_taken() -> None:
    settings = PlannerSettings(speeds=3, heights=20, speed_cost=10.0)
    planner = CorridorPlanner(Puppet(), settings)
    own = planner.trouble(APEX, _track(LOWERED), torch.tensor([[[1.0, 1.8]]]).double())
    assert float(own) >= settings.hit_cost
    choice = planner.plan(APEX, LOWERED)
    assert float(choice.loss) < settings.near_cost
    assert float(choice.parameters[0, 1]) < 1.5
    # Nothing on a fine grid is better by more than one cell is worth.
    fine = torch.cartesian_prod(torch.linspace(0.3, 2.2, 20), torch.linspace(1.15, 2.9, 60)).double()[None]
    trouble = planner.trouble(APEX, _track(LOWERED), fine)
    wish = 10.0 * (fine[..., 0] - 1.0).abs() + 0.1 * (fine[..., 1] - 1.8).abs() + 0.05
    assert float(choice.loss) <= float((trouble + wish).min()) + 0.1


def test_modes_that_begin_outside_their_sets_cost() -> None:
    candidates = torch.tensor([[[1.0, 1.8], [1.0, 2.5]]]).double()
    wide = CorridorPlanner(Puppet(10.0)).trouble(APEX, _track(LEVEL), candidates)
    narrow = CorridorPlanner(Puppet(0.5)).trouble(APEX, _track(LEVEL), candidates)
    assert wide.tolist() == [[0.0, 0.0]]
    assert narrow[0, 0] == 0.0
    assert narrow[0, 1] > 1.0


def test_descent_is_never_worse_than_the_grid_and_takes_many_at_once() -> None:
    apices = torch.tensor([[1.4, 1.0, 1.8], [0.9, 1.3, 1.7], [2.0, 0.8, 1.9]]).double()
    many = LOWERED.expand(3, -1)
    grid = CorridorPlanner(Puppet(), PlannerSettings(speeds=4, heights=4))
    descending = PlannerSettings(speeds=4, heights=4, refinement=Refinement(8, 0.003))
    refined = CorridorPlanner(Puppet(), descending).plan(apices, many)
    coarse = grid.plan(apices, many)
    assert (refined.loss <= coarse.loss).all()
    assert (refined.loss < coarse.loss).any()
    alone = torch.cat([grid.plan(apices[row : row + 1], LOWERED).parameters for row in range(3)])
    torch.testing.assert_close(coarse.parameters, alone)


@pytest.mark.parametrize("settings", [{"speeds": 0}, {"hops": 0}, {"beyond": -1}])
def test_settings_that_look_at_nothing_are_refused(settings) -> None:
    with pytest.raises(UserError, match="at least one"):
        PlannerSettings(**settings)


def test_no_room_to_keep_is_refused() -> None:
    with pytest.raises(UserError, match="positive"):
        PlannerSettings(body_room=0.0)


def _track(configuration: torch.Tensor):
    from rlstab.controllers.roa.pogobot.course import Track

    return Track.of(configuration)
