"""The cost-to-go is that of the best controller, and falls along its steps."""

from __future__ import annotations

import math

import pytest
import torch

from rlstab.controllers.lyapunov.optimal import OUTSIDE, CostToGo, corners, optimal_cost
from rlstab.envs.plants import CartPole, InvertedPendulum, PathTracking
from rlstab.errors import UserError


@pytest.fixture(scope="module")
def cost() -> CostToGo:
    return optimal_cost(PathTracking(), 61, 1.0)


def test_it_is_zero_at_the_origin_and_high_where_the_box_is_left(cost: CostToGo) -> None:
    assert float(cost.at(torch.zeros(2))) == pytest.approx(0.0, abs=0.02)
    # At full distance with the heading outwards, no steering keeps the vehicle in the box.
    assert float(cost.at(torch.tensor([2.95, 1.5]))) > 0.5 * OUTSIDE
    assert cost.cells == 61


def test_some_control_lowers_it_by_the_cost_of_the_step(cost: CostToGo) -> None:
    plant = PathTracking()
    generator = torch.Generator().manual_seed(0)
    states = (2.0 * torch.rand(500, 2, generator=generator) - 1.0) * torch.tensor(plant.box)
    states = states[cost.at(states) < 20.0]
    controls = torch.linspace(plant.control_low[0], plant.control_high[0], 41)
    spread = states[:, None].expand(-1, 41, -1)
    following = torch.stack(tuple(plant.step(spread.unbind(-1), (controls.expand(len(states), -1),))), -1)
    least = cost.at(following).amin(1)
    step = (states / torch.tensor(plant.box)).norm(dim=-1)
    # Between nodes the values are those of a coarse grid.
    assert float((least + step - cost.at(states)).mean().abs()) < 0.2


def test_interpolation_is_exact_for_planes_and_has_their_slopes() -> None:
    half = torch.tensor([2.0, 3.0, 1.0])
    nodes = torch.cartesian_prod(*(torch.linspace(-1.0, 1.0, 7) * side for side in half))
    slopes = torch.tensor([0.3, -0.7, 1.1])
    plane = CostToGo(nodes @ slopes + 5.0, half)
    state = torch.tensor([[0.37, -1.21, 0.5], [-1.9, 2.2, -0.99]], requires_grad=True)
    value = plane.at(state)
    torch.testing.assert_close(value, state @ slopes + 5.0)
    (gradient,) = torch.autograd.grad(value.sum(), state)
    torch.testing.assert_close(gradient, slopes.expand(2, -1))
    weights = corners(state, half, 7)[1]
    torch.testing.assert_close(weights.sum(-1), torch.ones(2))


def test_levels_are_shares_of_what_is_reached() -> None:
    cost = CostToGo(torch.tensor([0.0, 1.0, 2.0, 3.0, OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE]), torch.ones(2))
    assert cost.level(1.0) == 3.0
    assert cost.level(0.5) == 1.0
    with pytest.raises(UserError, match="no state of the grid reaches the origin"):
        CostToGo(torch.full((9,), OUTSIDE), torch.ones(2)).level(1.0)


def test_weak_torque_reaches_fewer_states() -> None:
    strong, weak = (
        optimal_cost(InvertedPendulum(control_low=(-limit,), control_high=(limit,)), 41, 1.0) for limit in (6.0, 0.3)
    )
    shares = [float((each.values < 0.5 * OUTSIDE).float().mean()) for each in (strong, weak)]
    assert shares[0] > 0.9
    assert shares[1] < 0.8 * shares[0]
    assert math.isfinite(strong.level(0.9))


def test_more_than_three_states_are_refused() -> None:
    with pytest.raises(UserError, match="--lyapunov quadratic"):
        optimal_cost(CartPole(), 11, 1.0)
