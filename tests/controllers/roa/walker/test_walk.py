"""Closed loops of the walker, and what its planner is compared with."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch

from rlstab.controllers.roa.walker.baselines import (
    GoalAtOnce,
    LearnedTorque,
    LookAhead,
    OrbitDistance,
    Simulated,
    SimulatedMpc,
)
from rlstab.controllers.roa.walker.data import gait_states, orbits
from rlstab.controllers.roa.walker.planner import PlannerSettings, RoaPlanner
from rlstab.controllers.roa.walker.walk import PlannedGaits, Starts, draw_pairs, draw_starts, walk
from rlstab.controllers.roa.walker.watch import watch
from rlstab.envs.hybrid.walker_gaits import GAITS
from rlstab.envs.hybrid.walker_stride import LONGEST, swing
from rlstab.policies.roa.policy import RoaPolicy
from rlstab.policies.roa.walker import WalkerModel

SOURCES = np.array([0.11, 0.12, 0.14, 0.15])


def some_starts() -> Starts:
    """Four walkers in gaits that lead to 0.13 at once, and one that falls."""
    x = np.concatenate([gait_states(SOURCES), [[0.13, -0.26, -0.1, 0.3]]])
    goal = np.full(5, 0.13)
    return Starts(x, np.append(SOURCES, 0.13), goal, gait_states(goal)[:, 0])


@pytest.fixture(scope="module")
def model() -> WalkerModel:
    torch.manual_seed(0)
    model = WalkerModel((8,), 4)
    starts, table = orbits(29, 41)
    model.set_orbits(torch.as_tensor(starts), torch.as_tensor(table))
    return model


def test_success_is_told_from_a_fall():
    walked = walk(PlannedGaits(GoalAtOnce()), some_starts())
    np.testing.assert_array_equal(walked.first_step, [True, True, True, True, False])
    np.testing.assert_array_equal(walked.reached, walked.first_step)
    np.testing.assert_array_equal(walked.lasting, walked.first_step)
    assert np.isnan(walked.seconds[4])
    assert np.isnan(walked.error[4])
    done = swing(some_starts().x[:4], 0.13)
    np.testing.assert_allclose(walked.seconds[:4], 0.01 * done.periods)
    np.testing.assert_array_equal(walked.steps[:4], 1.0)
    away = np.sqrt(((done.x - gait_states(np.full(4, 0.13))) ** 2).mean(1))
    np.testing.assert_allclose(walked.error[:4], away, atol=1e-12)


def test_being_asked_again_within_a_step_changes_no_walker():
    class Often(GoalAtOnce):
        def plan(self, x, goal):
            return goal.copy(), np.full(len(x), 7)

    once, often = (walk(PlannedGaits(planner), some_starts()) for planner in (GoalAtOnce(), Often()))
    np.testing.assert_array_equal(once.reached, often.reached)
    np.testing.assert_allclose(once.seconds, often.seconds)
    np.testing.assert_allclose(once.error, often.error, atol=1e-12)


def test_a_step_that_takes_two_seconds_is_a_fall_also_in_parts():
    class Slow(GoalAtOnce):
        def plan(self, x, goal):
            return np.full(len(x), 0.19), np.full(len(x), 50)

    start = Starts(GAITS[1:2, 1:], GAITS[1:2, 0], GAITS[1:2, 0], GAITS[1:2, 1])
    assert not walk(PlannedGaits(Slow()), start).first_step[0]


def test_starts_are_those_of_the_benchmark():
    one, many = draw_starts(np.random.default_rng(0), 20), draw_pairs(np.random.default_rng(0), 2)
    assert len(one.x) == 140
    assert len(many.x) == 160
    assert set(one.goal) == {0.13051651}
    assert len({(a, b) for a, b in zip(many.source, many.goal, strict=True)}) == 80
    assert one.x[:, 0].min() >= 0.01
    rows = np.repeat(np.arange(2, 9), 20)
    assert (np.abs(one.x - GAITS[rows, 1:]) <= np.array([0.01, 0.02, 0.1, 0.2]) + 1e-12).all()


def test_look_ahead_and_mpc_avoid_the_fall_that_the_goal_would_be():
    starts = draw_starts(np.random.default_rng(1), 2)
    at_once = walk(PlannedGaits(GoalAtOnce()), starts, steps_after=0)
    ahead = walk(PlannedGaits(LookAhead(8)), starts, steps_after=0)
    assert ahead.first_step.sum() > at_once.first_step.sum()
    mpc = walk(PlannedGaits(SimulatedMpc(5)), starts, steps=2, steps_after=0)
    assert mpc.first_step.sum() >= at_once.first_step.sum()
    gait, periods = LookAhead(8).plan(np.array([[0.13, -0.26, -0.1, 0.3]]), np.array([0.123]))
    assert gait[0] == 0.123
    assert periods[0] == LONGEST


def test_simulated_regions_are_those_of_walks_that_do_not_fall():
    x = torch.as_tensor(some_starts().x)
    values = Simulated(2).value(x, torch.full((5, 1), 0.13))
    assert values.tolist() == [0.0, 0.0, 0.0, 0.0, 2.0]


def test_orbit_distance_has_levels_that_roll_outs_show(model: WalkerModel):
    regions = OrbitDistance(model, np.random.default_rng(0), starts=20)
    configuration = torch.tensor([[0.04], [0.13], [0.18]])
    assert (regions.level(configuration) >= 0.0).all()
    on = torch.as_tensor(gait_states(np.array([0.04, 0.13, 0.18])))
    assert regions.value(on, configuration).max() < 1e-6


def test_a_policy_is_told_state_and_goal(model: WalkerModel):
    box = gymnasium.spaces.Box
    policy = RoaPolicy(box(-np.inf, np.inf, (5,), np.float32), box(-4.0, 4.0, (1,), np.float32), model)
    learned, plain = walk(LearnedTorque(policy), some_starts()), walk(PlannedGaits(GoalAtOnce()), some_starts())
    np.testing.assert_array_equal(learned.reached, plain.reached)
    np.testing.assert_allclose(learned.seconds, plain.seconds)


def test_the_monitor_sees_modes_and_their_values(model: WalkerModel):
    class Near(OrbitDistance):
        """V is the distance to the orbit, at a level of 40."""

        def __init__(self) -> None:
            self._orbits, self._levels = model, torch.full((29,), 40.0, dtype=torch.float64)

    seen = watch(RoaPlanner(Near(), PlannerSettings(bridge_gaits=0)), some_starts(), 0, 0.05, steps=4)
    assert not seen.fell
    assert seen.bridges == 0
    assert len(seen.report.modes) == 1
    assert seen.report.modes[0].inside
    assert seen.report.modes[0].dwell == 4
    assert seen.report.modes[0].left < seen.report.modes[0].entered
    assert watch(RoaPlanner(Near()), some_starts(), 4, 0.05).fell
