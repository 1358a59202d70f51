from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstab.controllers.roa.planner import Refinement, choose, violation
from rlstab.errors import UserError

LOW, HIGH = torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0])


def grid(worlds: int, points: int) -> torch.Tensor:
    axis = torch.linspace(-1.0, 1.0, points)
    return torch.cartesian_prod(axis, axis).expand(worlds, -1, -1).clone()


def bowl(centre: torch.Tensor):
    return lambda candidates: (candidates - centre[:, None]).square().sum(-1)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_the_nearest_candidate_is_chosen_for_each_world(centres):
    centre = torch.tensor(centres)
    candidates = grid(len(centres), 5)
    choice = choose(bowl(centre), candidates, LOW, HIGH)
    torch.testing.assert_close(choice.parameters, (centre / 0.5).round() * 0.5, atol=0.5 + 1e-6, rtol=0)
    torch.testing.assert_close(choice.loss, bowl(centre)(candidates).amin(1))


@given(st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_descent_is_never_worse_than_the_grid_and_stays_within_limits(seed):
    torch.manual_seed(seed)
    centre = 3.0 * torch.rand(3, 2) - 1.5
    plain = choose(bowl(centre), grid(3, 4), LOW, HIGH)
    refined = choose(bowl(centre), grid(3, 4), LOW, HIGH, Refinement(steps=20, learning_rate=0.02))
    assert (refined.loss <= plain.loss).all()
    assert (refined.parameters >= LOW).all()
    assert (refined.parameters <= HIGH).all()


def test_descent_reaches_a_minimum_between_candidates():
    centre = torch.tensor([[0.21, -0.4]])
    plain = choose(bowl(centre), grid(1, 3), LOW, HIGH)
    refined = choose(bowl(centre), grid(1, 3), LOW, HIGH, Refinement(steps=200, learning_rate=0.01))
    assert float(plain.loss) > 0.05
    assert float(refined.loss) < 1e-3
    torch.testing.assert_close(refined.parameters, centre, atol=0.03, rtol=0)


def test_candidates_without_a_finite_loss_are_avoided():
    def loss(candidates: torch.Tensor) -> torch.Tensor:
        return torch.where(candidates[..., 0] < 0.0, torch.nan, candidates[..., 0])

    choice = choose(loss, grid(2, 5), LOW, HIGH, Refinement(steps=3))
    assert (choice.parameters[:, 0] == 0.0).all()
    assert (choice.loss == 0.0).all()


def test_what_cannot_be_planned_is_refused():
    with pytest.raises(UserError, match="no candidate of the planner has a finite loss"):
        choose(lambda candidates: candidates[..., 0] * torch.nan, grid(1, 2), LOW, HIGH)
    with pytest.raises(UserError, match="k of at least one"):
        choose(bowl(torch.zeros(1, 2)), torch.zeros(1, 0, 2), LOW, HIGH)


def test_violation_is_zero_inside():
    value, level = torch.tensor([0.5, 2.0, 3.0]), torch.tensor([1.0, 2.0, 2.5])
    assert violation(value, level).tolist() == [0.0, 0.0, 0.5]
    assert violation(value, level, 0.25).tolist() == [0.0, 0.25, 0.75]
