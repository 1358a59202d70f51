"""The fast walker against the system that defines it, and against the table of gaits."""

from __future__ import annotations

import numpy as np
import pytest

from rlstab.envs.hybrid.walker import is_valid
from rlstab.envs.hybrid.walker_gaits import GAITS, gait_torque, walk
from rlstab.envs.hybrid.walker_stride import advance_period, steps, swing
from rlstab.errors import UserError


def some_walkers(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = GAITS[rng.integers(len(GAITS), size=n), 1:] + rng.uniform(-1.0, 1.0, (n, 4)) * [0.05, 0.1, 0.25, 0.5]
    return x, rng.uniform(0.0, 0.3, n)


def test_it_is_the_walker():
    x, gait = some_walkers(40)
    first, fell = np.full((40, 4), np.nan), ~np.asarray(is_valid(x))
    took = np.zeros(40)
    for number, stretch in enumerate(walk(x, gait), 1):
        lands = (stretch.count > 0) & ~fell & (took == 0)
        first[lands], took[lands] = stretch.state.x[lands], number
        fell |= ~np.asarray(is_valid(stretch.state.x))
    done = swing(x, gait)
    landed = done.struck & done.upright
    # One that is not upright just before the impact counts as fallen here, and is upright to the eye afterwards.
    assert 5 < landed.sum() < 40
    assert not (landed & (took == 0)).any()
    np.testing.assert_allclose(done.x[landed], first[landed], rtol=0, atol=1e-10)
    np.testing.assert_array_equal(done.periods[landed], took[landed])


def test_gaits_of_the_table_return_and_the_two_widest_do_not():
    states, walking = steps(GAITS[:, 1:], GAITS[:, 0], 1)
    assert GAITS[~walking, 0].tolist() == [0.2, 0.19]
    np.testing.assert_allclose(states[1, 3:], GAITS[3:, 1:], rtol=0, atol=7e-6)
    assert np.isnan(states[1, :2]).all()


def test_time_limits_are_kept_walker_by_walker():
    x = np.repeat(GAITS[7:8, 1:], 3, 0)
    done = swing(x, 0.13, [0, 10, 200])
    np.testing.assert_array_equal(done.periods, [0, 10, 78])
    np.testing.assert_array_equal(done.struck, [False, False, True])
    np.testing.assert_array_equal(done.x[0], x[0])
    alone = x[:1]
    for _ in range(10):
        alone, _, _ = advance_period(alone, gait_torque(alone, np.array([0.13])))
    np.testing.assert_allclose(done.x[1], alone[0], atol=1e-12)


def test_one_that_falls_is_not_upright_and_goes_no_further():
    done = swing(np.array([[0.3, -0.4, 0.5, 0.0]]), 0.1)
    assert not done.upright[0]
    assert not done.struck[0]
    assert done.periods[0] < 200


@pytest.mark.parametrize("x", [np.zeros(4), np.full((1, 4), np.nan), np.zeros((2, 3))])
def test_what_is_no_state_is_refused(x: np.ndarray):
    with pytest.raises(UserError, match="finite numbers"):
        swing(x, 0.1)
