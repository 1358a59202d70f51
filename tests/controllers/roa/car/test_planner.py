"""The planner finds what is planted, agrees with a search by plain loops, and stays inside level sets where it can."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from rlstab.controllers.roa.car.drive import Drive, drive
from rlstab.controllers.roa.car.followers import LqrFollower, QuadraticModes
from rlstab.controllers.roa.car.planner import FEASIBLE, CarPlanner, Scene
from rlstab.controllers.roa.car.references import Planned
from rlstab.controllers.roa.planner import Refinement
from rlstab.envs.hybrid.car import to_error
from rlstab.envs.hybrid.car_lqr import car_lqr
from rlstab.envs.hybrid.road import Road, random_road
from rlstab.errors import UserError


class Planted:
    """``V`` weighs the heading alone; the level is whatever a function of the speed says."""

    def __init__(self, level: Callable[[Tensor], Tensor]) -> None:
        self._level = level

    def factor(self, configuration: Tensor, /) -> Tensor:
        factor = torch.zeros(len(configuration), 7, 7)
        factor[:, 4, 4] = 1.0
        return factor

    def level(self, configuration: Tensor, /) -> Tensor:
        return self._level(configuration[:, 1])


def scene(heading: float = 0.0, turn: float = 0.0, last: bool = False, speed: float = 5.0) -> Scene:
    """A car at the origin before 10 m along x and then 10 m that turn."""
    ahead = [10.0 + 10.0 * np.cos(turn), 10.0 * np.sin(turn)]
    parts = [[0.0, 0.0, 0.0, speed, heading, 0.0, 0.0], [0.0, 0.0], [10.0, 0.0], ahead, [0.0, 1.0], [1.0, 1.0]]
    return Scene(*(torch.tensor([part], dtype=torch.float64) for part in parts), torch.tensor([last]))


def anything(speed: Tensor) -> Tensor:
    return torch.full_like(speed, torch.inf)


def test_time_alone_asks_for_the_highest_speed_and_the_shortest_way() -> None:
    chosen = CarPlanner(modes=Planted(anything), time_weight=1e6, violation_weight=0.0).plan(scene(turn=0.5)).parameters
    assert chosen[0, 1:].tolist() == pytest.approx([15.0, 15.0])
    # Straight from the origin to the end of the second piece, at the node it would be 2.4 m to the left of the road.
    assert float(chosen[0, 0]) == 1.0


def test_a_level_set_that_ends_at_a_speed_is_kept() -> None:
    def level(speed: Tensor) -> Tensor:
        return torch.where(speed <= 7.0, torch.inf, 0.0)

    planner = CarPlanner(modes=Planted(level), time_weight=1.0, violation_weight=1e3)
    found = scene(heading=0.3, turn=-0.4, speed=6.0)
    chosen = planner.plan(found)
    grid = np.geomspace(3.0, 15.0, 16)
    assert chosen.parameters[0, 1:].tolist() == pytest.approx([grid[grid <= 7.0].max()] * 2)
    assert float(planner.violation(found, chosen.parameters)) <= FEASIBLE
    too_fast = torch.tensor([[0.0, 9.0, 6.0]], dtype=torch.float64)
    assert float(planner.violation(found, too_fast)) == pytest.approx(0.5 * 0.3**2 + (3.0 - 2.0) / 2.0 + 0.5, abs=1e-6)


def test_the_node_moves_to_where_the_car_points_to() -> None:
    # Only the heading counts, of the car now and of the turn to come: a line through both is the compromise.
    planner = CarPlanner(modes=Planted(anything), time_weight=0.0, shifts=201)
    shift = float(planner.plan(scene(heading=0.05)).parameters[0, 0])
    grid = np.linspace(-1.0, 1.0, 201)
    here = np.arctan2(grid, 10.0)
    cost = 0.5 * (0.05 - here) ** 2 + 0.5 * (here - np.arctan2(-grid, 10.0)) ** 2
    assert shift == pytest.approx(grid[cost.argmin()])
    assert 0.05 < shift < 0.5


def test_the_last_node_stays_where_it_is() -> None:
    planner = CarPlanner(modes=Planted(anything), time_weight=0.0)
    low, high = (planner.plan(scene(heading=heading, last=True)).loss for heading in (0.1, 0.2))
    assert float(high / low) == pytest.approx(4.0)


def test_the_choice_is_that_of_plain_loops() -> None:
    modes = QuadraticModes(0.1)
    planner = CarPlanner(modes=modes, shifts=5, speeds=4, time_weight=0.3)
    rng = np.random.default_rng(0)
    found = scene(heading=0.4, turn=0.6)
    world = found.world.numpy() + rng.normal(0.0, 0.1, (1, 7))
    found = Scene(torch.from_numpy(world), *(getattr(found, name) for name in
                  ("start", "node", "following", "across", "friction", "last")))  # fmt: skip
    best = (np.inf, (0.0, 0.0, 0.0))
    for shift, speed, after in itertools.product(np.linspace(-1, 1, 5), *[np.geomspace(3.0, 15.0, 4)] * 2):
        node = np.array([10.0, shift])
        heading = np.arctan2(shift, 10.0)
        there = found.following.numpy()[0] - node
        turn = heading - np.arctan2(there[1], there[0])
        x = to_error(world, np.array([[0.0, 0.0, heading, speed]]))[0]
        settled = np.array([0.0, 0.0, 0.0, speed - after, turn, 0.0, 0.0])
        cost = 0.15 * (np.linalg.norm(node) / speed + np.linalg.norm(there) / after)
        for state, v in ((x, speed), (settled, after)):
            cost += 0.5 * state @ car_lqr(1.0, v, control_weight=0.1).p @ state
            starts = np.array([1.0, 1.5, 0.4, 2.0, 1.2, 1.5, 0.25])
            cost += 10.0 * np.maximum(np.abs(state) / starts - 1.0, 0.0).sum()
        best = min(best, (cost, (shift, speed, after)))
    chosen = planner.plan(found)
    assert float(chosen.loss) == pytest.approx(best[0], rel=1e-4)
    assert chosen.parameters[0].tolist() == pytest.approx(best[1], abs=1e-9)


def test_descent_goes_on_from_the_grid_and_is_never_worse() -> None:
    modes = QuadraticModes(0.01)
    found = scene(heading=0.3, turn=0.7)
    coarse = CarPlanner(modes=modes, shifts=3, speeds=4).plan(found)
    refined = CarPlanner(modes=modes, shifts=3, speeds=4, refinement=Refinement(10, 0.01)).plan(found)
    finest = CarPlanner(modes=modes, shifts=11, speeds=40).plan(found)
    # Hand-made matrices have no gradient, but the errors' speeds and the times have.
    assert float(finest.loss) - 1e-3 <= float(refined.loss) < float(coarse.loss)
    assert float(refined.parameters[0, 1:].max()) <= 15.0
    assert float(refined.parameters[0, 0].abs()) <= 1.0


def test_planned_references_join_and_the_car_does_not_jump() -> None:
    roads = [random_road(np.random.default_rng(2000 + seed), segments=2) for seed in range(3)]
    references = Planned(roads, CarPlanner(modes=QuadraticModes(0.01), shifts=5, speeds=6))
    drives = drive(roads, references, LqrFollower(0.01))
    for road, found in zip(roads, drives, strict=True):
        pieces = found.references
        ends = pieces[:, 4:] + pieces[:, 3:4] * np.stack([np.cos(pieces[:, 2]), np.sin(pieces[:, 2])], 1)
        np.testing.assert_allclose(ends[:-1], pieces[1:, 4:], atol=1e-9)
        np.testing.assert_allclose(ends[-1], road.points[-1], atol=1e-9)
        assert np.abs(np.linalg.norm(pieces[:, 4:] - road.points[:-1], axis=1)).max() <= 1.0 + 1e-9
        assert pieces[:, 0].tolist() == road.friction.tolist()
        moved = np.linalg.norm(np.diff(found.track, axis=0), axis=1)
        assert moved.max() < 0.01 * 17.0
        assert _settles(found)
    assert references.infeasible == 0


def _settles(found: Drive) -> bool:
    return found.until_lost == len(found.errors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slowest": 0.0}, "speeds must be positive and in order"),
        ({"slowest": 9.0, "fastest": 5.0}, "in order"),
        ({"shift": -1.0}, "must not be negative"),
        ({"speeds": 0}, "must have points"),
    ],
)
def test_settings_that_make_no_planner_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CarPlanner(modes=Planted(anything), **changes)  # pyright: ignore[reportArgumentType]


def test_a_friction_that_nobody_trained_on_is_refused() -> None:
    road = Road(np.array([[0.0, 0.0], [10.0, 0.0]]), np.array([0.01]))
    with pytest.raises(UserError, match=r"road 0 has frictions from 0\.01"):
        Planned([road], CarPlanner(modes=Planted(anything)))
