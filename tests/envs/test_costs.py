from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlstab.envs.costs import QuadraticCost, SpeedCost, TrackingCost, cost_of
from rlstab.envs.registry import make_vec
from rlstab.errors import UserError


def test_a_linear_system_costs_minus_its_reward() -> None:
    cost = cost_of(make_vec("rlstab/LinearQuadratic-S1-v0", 2))
    assert isinstance(cost, QuadraticCost)
    assert cost.worst is None
    np.testing.assert_array_equal(cost(np.array([-3.0, 0.0]), np.zeros(2, bool)), [3.0, 0.0])


def test_a_runner_costs_the_speed_that_it_misses() -> None:
    env: Any = make_vec("Hopper-v5", 3)
    cost = cost_of(env, 2.0)
    assert isinstance(cost, SpeedCost)
    assert cost.worst == 1.0
    env.reward_terms = {"reward_forward": np.array([0.5, 3.0, -1.0])}
    np.testing.assert_allclose(cost(np.zeros(3), np.zeros(3, bool)), [0.75, 0.0, 1.0])
    np.testing.assert_allclose(cost(np.zeros(3), np.array([True, True, False])), [1.0, 1.0, 1.0])


def test_terms_of_a_reward_sum_to_it() -> None:
    env: Any = make_vec("Walker2d-v5", 2, seed=0)
    env.reset(seed=0)
    _, reward, *_ = env.step(np.full((2, 6), 0.3, np.float32))
    np.testing.assert_allclose(sum(env.reward_terms.values()), reward)
    assert cost_of(env)(reward, np.zeros(2, bool)).shape == (2,)


def test_a_balancer_costs_its_fall_alone() -> None:
    cost = cost_of(make_vec("InvertedPendulum-v5", 2))
    assert cost.worst == 1.0
    np.testing.assert_array_equal(cost(np.array([1.0, 0.0]), np.array([False, True])), [0.0, 1.0])


def test_a_quadruped_costs_the_tracking_that_it_misses() -> None:
    env: Any = make_vec("rlstab/Go1Velocity-v0", 3, num_threads=1)
    cost = cost_of(env)
    assert isinstance(cost, TrackingCost)
    assert cost.worst == 1.0
    env.reward_terms = {
        "tracking_linear": np.array([0.02, 0.0, 0.02]),
        "tracking_angular": np.array([0.01, 0.006, 0.01]),
    }
    np.testing.assert_allclose(cost(np.zeros(3), np.array([False, False, True])), [0.0, 0.8, 1.0], atol=1e-12)


@pytest.mark.parametrize("env_id", ["Reacher-v5", "CartPole-v1"])
def test_where_nothing_tells_the_cost_it_is_said(env_id: str) -> None:
    with pytest.raises(UserError, match=r"no cost is known|needs a native environment"):
        cost_of(make_vec(env_id, 1))
