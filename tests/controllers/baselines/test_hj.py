"""Reachability tables against the double integrator, whose least times are known."""

from __future__ import annotations

import numpy as np
import pytest

from rlstab.controllers.baselines.hj import Grid, Move, solve_reach
from rlstab.errors import UserError

DT = 0.1


def double_integrator(x: np.ndarray, control: np.ndarray) -> Move:
    after = np.stack([x[:, 0] + DT * x[:, 1] + 0.5 * DT**2 * control, x[:, 1] + DT * control], 1)
    arrived = np.abs(after).max(1) < 0.1
    return Move(after, np.full(len(x), DT), arrived, np.zeros(len(x), bool))


def least_time(x: np.ndarray) -> np.ndarray:
    """To the origin with ``|u| <= 1``: Pontryagin's bang-bang solution."""
    position, speed = x.T
    side = np.where(position + 0.5 * speed * np.abs(speed) > 0.0, 1.0, -1.0)
    return side * speed + 2.0 * np.sqrt(np.maximum(0.5 * speed**2 + side * position, 0.0))


def test_least_times_of_the_double_integrator():
    grid = Grid((-2.0, -2.0), (2.0, 2.0), (81, 81))
    table = solve_reach(grid, (-1.0, 0.0, 1.0), double_integrator, cap=10.0)
    assert table.change <= 1e-3
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (500, 2))
    ours, exact = table.at(x), least_time(x)
    # A set of half-width 0.1 is reached earlier than its centre: by half a second where it is passed at low speed.
    assert (ours <= exact + 0.05).all()
    assert (ours >= exact - 0.6).all()
    assert np.median(exact - ours) == pytest.approx(0.1, abs=0.05)
    assert np.corrcoef(ours, exact)[0, 1] > 0.99


def test_what_leaves_the_grid_or_fails_never_arrives():
    grid = Grid((-1.0, -1.0), (1.0, 1.0), (21, 21))
    table = solve_reach(grid, (-1.0, 1.0), double_integrator, cap=7.0)
    assert table.at(np.array([[0.9, 0.9], [5.0, 0.0]])).tolist() == [7.0, 7.0]

    def broken(x: np.ndarray, control: np.ndarray) -> Move:
        made = double_integrator(x, control)
        return Move(made.x, made.cost, np.zeros(len(x), bool), np.ones(len(x), bool))

    assert (solve_reach(grid, (0.0,), broken, cap=7.0).values == 7.0).all()


def test_tables_are_linear_between_points_in_four_dimensions():
    grid = Grid((0.0,) * 4, (1.0,) * 4, (3, 4, 2, 5))
    slope = np.array([0.1, 0.2, 0.3, 0.4])

    def at_once(x: np.ndarray, control: np.ndarray) -> Move:
        del control
        return Move(x, x @ slope, np.ones(len(x), bool), np.zeros(len(x), bool))

    table = solve_reach(grid, (0.0,), at_once, cap=5.0)
    x = np.random.default_rng(1).uniform(0.0, 1.0, (50, 4))
    np.testing.assert_allclose(table.at(x), x @ slope, atol=1e-6)


@pytest.mark.parametrize(
    ("low", "high", "points"), [((0.0,) * 5, (1.0,) * 5, (2,) * 5), ((1.0,), (0.0,), (3,)), ((0.0,), (1.0,), (1,))]
)
def test_grids_that_make_no_sense_are_refused(low, high, points):
    with pytest.raises(UserError, match="grid"):
        Grid(low, high, points)


def test_no_control_is_refused():
    with pytest.raises(UserError, match="at least one control"):
        solve_reach(Grid((0.0,), (1.0,), (3,)), (), double_integrator, cap=1.0)
