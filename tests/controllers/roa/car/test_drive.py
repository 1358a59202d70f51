"""Drives are those of a plain loop, their figures are the benchmark's, and switches leave the world as it is."""

from __future__ import annotations

import numpy as np
import pytest

from rlstab.controllers.roa.car.drive import Drive, FloatArray, Follower, IntArray, distance_to_road, drive
from rlstab.controllers.roa.car.followers import LqrFollower
from rlstab.controllers.roa.car.references import ConstantSpeed, ConstantTime
from rlstab.envs.hybrid.car import euler_step, to_error, to_world
from rlstab.envs.hybrid.car_lqr import car_lqr
from rlstab.envs.hybrid.road import Road, random_road
from rlstab.envs.hybrid.system import HybridState
from rlstab.errors import UserError

STRAIGHT = Road(np.array([[0.0, 0.0], [4.0, 0.0]]), np.array([1.0]))


def plain(road: Road, speed: float) -> tuple[FloatArray, FloatArray]:
    """Errors and tracks of a drive whose switches fall on control steps."""
    world = np.zeros((1, 7))
    world[0, 3] = 5.0
    errors, track = [], []
    for piece in range(len(road.friction)):
        mu = road.friction[piece]
        gain = car_lqr(mu, speed).gain
        reference = np.array([[*road.points[piece], road.headings[piece], speed]])
        x = to_error(world, reference)
        for _ in range(round(road.lengths[piece] / speed / 0.01)):
            errors.append(x[0])
            track.append(to_world(x, reference)[0, :2])
            reference[:, :2] += 0.01 * speed * np.array([np.cos(reference[0, 2]), np.sin(reference[0, 2])])
            x = euler_step(x, np.clip(-x @ gain.T, -8.0, 8.0), np.array([mu]), np.array([speed]), np.zeros(1))
        world = to_world(x, reference)
    return np.array(errors), np.array(track)


def test_a_drive_is_that_of_a_plain_loop() -> None:
    road = random_road(np.random.default_rng(3), segments=2)
    found = drive([road], ConstantSpeed(5.0), LqrFollower())[0]
    errors, track = plain(road, 5.0)
    assert len(found.errors) == pytest.approx(len(errors), abs=len(road.friction))
    assert found.seconds == pytest.approx(road.lengths.sum() / 5.0, abs=0.02)
    # Switches fall between control steps, so that the two drift apart by what a fraction of a step does.
    assert found.figures(road)["rmse"] == pytest.approx(np.sqrt(np.square(errors).sum(1).mean()), rel=0.02)
    same = errors[: int(found.piece.argmax())]
    np.testing.assert_allclose(found.errors[: len(same) // 2], same[: len(same) // 2], atol=1e-9)
    assert np.linalg.norm(found.track[-1] - track[-1]) < 0.1


def test_roads_that_are_driven_together_do_not_meet() -> None:
    roads = [random_road(np.random.default_rng(seed), segments=1) for seed in (5, 6)]
    together = drive(roads, ConstantTime(1.5), LqrFollower())
    for road, found in zip(roads, together, strict=True):
        alone = drive([road], ConstantTime(1.5), LqrFollower())[0]
        np.testing.assert_allclose(found.errors, alone.errors, atol=1e-12)
        assert found.seconds == pytest.approx(alone.seconds)
        assert found.references[:, 1].tolist() == pytest.approx((road.lengths / 1.5).tolist())


class Wheel(Follower):
    """Holds the wheel at full lock after a while."""

    def begin(self, worlds: IntArray, modes: FloatArray) -> None:
        pass

    def act(self, worlds: IntArray, state: HybridState) -> FloatArray:
        return np.tile([100.0, 0.0], (len(worlds), 1)) * (state.x[:, 7:] > 2.0)


def test_figures_are_those_of_the_benchmark() -> None:
    found = drive([STRAIGHT], ConstantSpeed(5.0), LqrFollower())[0]
    figures = found.figures(STRAIGHT)
    assert figures["rmse"] == 0.0
    assert figures["valid"] == figures["whole"] == 1.0
    assert figures["steps"] == pytest.approx(80.0, abs=1.5)
    errors = np.zeros((10, 7))
    errors[:, 0], errors[6:, 1] = 2.0, -4.0
    lost = Drive(
        errors, np.tile([1.0, 0.5], (10, 1)), np.zeros(10, int), found.references, errors[-1], 0.1, np.zeros(1),
        np.zeros(10),
    ).figures(STRAIGHT)  # fmt: skip
    assert lost["valid"] == 0.6
    assert lost["whole"] == 0.0
    assert lost["rmse"] == pytest.approx(np.sqrt(4.0 + 0.4 * 16.0))
    assert lost["masked_rmse"] == 2.0
    assert lost["masked_dev"] == 0.0
    assert lost["off_road"] == lost["farthest_off_road"] == 0.5
    assert lost["missing"] == pytest.approx(np.hypot(3.0, 0.5) / 4.0)


def test_controls_are_clipped_to_the_limit() -> None:
    road = Road(np.array([[0.0, 0.0], [3.0, 0.0]]), np.array([1.0]))
    found = drive([road], ConstantSpeed(5.0), Wheel(), limit=3.0)[0]
    turned = np.diff(found.errors[:, 2])
    assert turned.max() == pytest.approx(0.03)


def test_distance_to_the_road_is_to_the_nearest_of_its_pieces() -> None:
    road = Road(np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]]), np.ones(2))
    points = np.array([[5.0, 2.0], [12.0, 5.0], [-3.0, 4.0], [9.0, 9.0]])
    assert distance_to_road(points, road).tolist() == [2.0, 2.0, 5.0, 1.0]


def test_roads_of_different_lengths_are_refused() -> None:
    roads = [random_road(np.random.default_rng(0), segments=segments) for segments in (1, 2)]
    for some in (roads, []):
        with pytest.raises(UserError, match="the same number of pieces"):
            drive(some, ConstantSpeed(5.0), LqrFollower())
