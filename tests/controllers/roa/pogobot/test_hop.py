"""Pilots in the exact environment, and how their hops are measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlstab.controllers.roa.pogobot.deadbeat import deadbeat_pilot
from rlstab.controllers.roa.pogobot.handmade import HandmadeModel
from rlstab.controllers.roa.pogobot.hop import body_path, hop_through, start
from rlstab.controllers.roa.pogobot.pilot import RoaPilot
from rlstab.controllers.roa.pogobot.policy_pilot import PolicyPilot
from rlstab.envs.hybrid.corridor import Corridor, random_corridor
from rlstab.envs.hybrid.pogobot import hop
from rlstab.envs.registry import make_vec
from rlstab.errors import UserError
from rlstab.policies.roa.pogobot import PogobotModel
from rlstab.policies.roa.policy import RoaPolicy

ID = "rlstab/Pogobot-v0"
LEVEL = Corridor(np.array([[2.0, 0.0, 2.5, 1.0], [3.0, 0.0, 2.5, 1.2]]))
WALL = Corridor(np.array([[2.0, 0.0, 4.0, 1.0], [3.0, 2.5, 4.0, 1.0]]))


def test_deadbeat_hops_keep_their_speed_through_a_level_corridor() -> None:
    run = hop_through(LEVEL, deadbeat_pilot())
    assert (run.success, run.ending, run.valid) == (True, "end", 1.0)
    assert run.apices[-1, 0] >= 5.0
    assert run.travel_s == pytest.approx(5.0 / 1.1, rel=0.3)
    # The start is half a metre a second too fast, and each border costs part of a flight.
    assert 0.02 < run.speed_error < run.rmse < 0.25
    assert len(run.decision_s) == run.hops == len(run.controls)
    path = body_path(LEVEL, run)
    np.testing.assert_allclose(path[[0, -1]], run.apices[[0, -1]][:, [0, 2]], atol=1e-9)


def test_a_hit_ends_the_run_and_its_way_counts_as_valid_up_to_there() -> None:
    run = hop_through(WALL, deadbeat_pilot())
    assert (run.success, run.ending) == (False, "hit")
    assert 0.2 < run.valid < 0.5
    assert len(run.apices) == run.hops


def test_errors_of_speed_are_those_of_the_segment_below() -> None:
    apex = np.array([1.9, 1.5, 1.5])
    run = hop_through(LEVEL, lambda apices, _: np.array([[0.12, 0.0]]), apex, most_hops=1)
    taken = hop(*apex[:, None], np.array([0.12]), np.zeros(1), LEVEL.configuration()[None])
    falling, rising = -taken.touchdown[0, 3] / 10.0, taken.liftoff[0, 3] / 10.0
    first, after = 0.1 / 1.5, taken.xdot[0]
    mean = (first * 0.5 + (falling - first) * 0.3 + rising * abs(after - 1.2)) / (falling + rising)
    assert run.speed_error == pytest.approx(mean)
    assert run.ending == "hops"


def test_a_beginning_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="three finite numbers"):
        hop_through(LEVEL, deadbeat_pilot(), np.array([0.0, np.nan, 1.5]))


def test_a_policy_is_shown_what_the_environment_shows() -> None:
    env = make_vec(ID, 1, seed=0)
    policy = RoaPolicy(env.single_observation_space, env.single_action_space, PogobotModel())
    observation, _ = env.reset(seed=5)
    table = env.physics.qpos[0, 12:].reshape(5, 4)
    action, _ = policy.predict(observation)
    pilot = PolicyPilot(policy)
    control = pilot(env.physics.qpos[:, [0, 1, 2]], table.reshape(1, 20))
    np.testing.assert_allclose(control, action * [0.5, 5000.0], rtol=1e-6)


@pytest.fixture(scope="module")
def handmade() -> HandmadeModel:
    return HandmadeModel()


def test_the_planner_passes_where_following_the_segments_fails(handmade: HandmadeModel) -> None:
    corridor, kind = next(drawn for drawn in map(_draw, range(2000, 2050)) if drawn[1] == 3)
    assert kind == 3
    assert not hop_through(corridor, deadbeat_pilot()).success
    pilot = RoaPilot(handmade, dtype=torch.float64)
    run = hop_through(corridor, pilot)
    assert run.success
    report = pilot.report()
    assert len(report.modes) > len(corridor.segments) - 1
    assert sum(mode.dwell for mode in report.modes) == run.hops - 1
    assert all(mode.level > 0.0 for mode in report.modes)
    pilot.reset()
    assert pilot.report().modes == ()


def test_the_hand_made_controller_repeats_its_reference_and_comes_to_it(handmade: HandmadeModel) -> None:
    reference = torch.tensor([[1.0, 1.5], [2.0, 2.2]]).double()
    state = reference + torch.tensor([[0.1, -0.05]]).double()
    for _ in range(2):
        hops = handmade.predict(state, handmade.control(state, reference))
        state = torch.stack([hops.xdot, hops.y], -1)
    torch.testing.assert_close(state, reference, atol=0.02, rtol=0)
    assert (handmade.level(reference) > 0.0).all()
    assert (handmade.value(reference, reference) == 0.0).all()


def test_a_pilot_steers_one_hopper(handmade: HandmadeModel) -> None:
    apices = np.tile(start(LEVEL), (2, 1))
    with pytest.raises(UserError, match="one hopper"):
        RoaPilot(handmade)(apices, np.tile(LEVEL.configuration(), (2, 1)))


def _draw(seed: int) -> tuple[Corridor, int]:
    return random_corridor(np.random.default_rng(seed))
