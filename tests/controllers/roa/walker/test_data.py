"""What the walker's networks learn from: the orbits, the states, and the judgement of walks."""

from __future__ import annotations

import numpy as np

from rlstab.controllers.roa.walker.data import gait_states, judge, orbits, sample_gaits, sample_states
from rlstab.envs.hybrid.walker import is_valid
from rlstab.envs.hybrid.walker_gaits import GAITS, gait_torque
from rlstab.envs.hybrid.walker_stride import steps, swing


def test_states_after_impacts_return_to_themselves_also_between_the_table_of_gaits():
    gait = np.array([0.045, 0.085, 0.13, 0.1625])
    x = gait_states(gait)
    np.testing.assert_allclose(gait_states(GAITS[3:, 0]), GAITS[3:, 1:], atol=1e-4)
    states, walking = steps(x, gait, 1)
    assert walking.all()
    np.testing.assert_allclose(states[1], x, atol=1e-3)


def test_orbits_are_where_walkers_go():
    starts, table = orbits(29, 41)
    angles = np.linspace(0.04, 0.18, 29)
    here = np.concatenate([starts[:, None], table[:, -1]], 1)
    done = swing(here, angles, 20)
    places = (done.x[:, 0] / starts + 1.0) * 20.0
    rows = zip(places, table, strict=True)
    on = np.array([[np.interp(place, np.arange(41), row[:, part]) for part in range(3)] for place, row in rows])
    assert np.abs(on - done.x[:, 1:])[:, 0].max() < 0.01
    assert np.median(np.abs(on - done.x[:, 1:])[:, 2]) < 0.02


def test_what_stays_and_what_falls_is_told_apart():
    rng = np.random.default_rng(0)
    gait = np.full(40, 0.13)
    near = gait_states(gait) + rng.uniform(-0.01, 0.01, (40, 4))
    assert judge(near, gait).stable.all()
    slow = gait_states(gait) * [1.0, 1.0, 0.3, 1.0]
    judged = judge(slow, gait)
    assert not judged.stable.any()
    assert np.isnan(judged.later).all()


def test_states_are_upright_and_the_same_for_the_same_seed():
    x = sample_states(np.random.default_rng(3), 200)
    assert np.asarray(is_valid(x)).all()
    np.testing.assert_array_equal(x, sample_states(np.random.default_rng(3), 200))
    # Some begin a step, with both feet near the ground, and some are within one.
    height = 2.0 * x[:, 0] + x[:, 1]
    assert (np.abs(height) < 0.051).mean() > 0.3
    assert (height > 0.1).mean() > 0.1
    gaits = sample_gaits(np.random.default_rng(0), 100)
    assert gaits.min() >= 0.04
    assert gaits.max() <= 0.18


def test_the_later_steps_are_those_of_the_gait():
    gait = np.array([0.1])
    judged = judge(gait_states(gait) + np.array([0.01, -0.02, 0.05, 0.0]), gait)
    np.testing.assert_array_equal(judged.later[0], swing(judged.x, gait).x)
    assert np.isfinite(gait_torque(judged.later[1], gait)).all()
