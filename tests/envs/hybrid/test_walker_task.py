"""The walker as an environment: rewards and ends of its definition, and the gait controller that walks in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlstab.envs.hybrid.walker_gaits import gait_torque
from rlstab.envs.hybrid.walker_task import distance_to_gait
from rlstab.envs.registry import make_task, make_vec
from rlstab.errors import UserError

ID = "rlstab/Walker-v0"


def test_rewards_and_ends_are_those_of_the_definition():
    env: Any = make_vec(ID, 8, seed=3)
    x, _ = env.reset()
    assert x.shape == (8, 5)
    assert ((x[:, 4] >= 0.04) & (x[:, 4] <= 0.2)).all()
    for _ in range(300):
        x, reward, terminated, truncated, infos = env.step(env.action_space.sample())
        last = np.where((terminated | truncated)[:, None], infos["final_obs"], x) if infos else x
        np.testing.assert_array_equal(terminated, (np.abs(last[:, 0]) > 0.5) | (np.abs(last[:, 1]) > 1.0))
        terms = env.reward_terms
        np.testing.assert_allclose(terms["cost_gait"], -distance_to_gait(last[:, :4], last[:, 4]), rtol=1e-12)
        np.testing.assert_allclose(reward, terms["cost_gait"] - 100.0 * terminated + terms["step"], rtol=1e-12)


def test_the_gait_controller_walks():
    env: Any = make_vec(ID, 12, seed=0, env_kwargs={"spread": 0.0, "gait_spread": 0.0})
    x, _ = env.reset()
    walks = x[:, 4] <= 0.17
    assert walks.sum() > 6
    steps = np.zeros(12)
    for _ in range(199):
        x, _, terminated, _, _ = env.step(gait_torque(x, x[:, 4])[:, None].astype(np.float32))
        assert not terminated[walks].any()
        steps += env.reward_terms["step"] > 90.0
        assert env.reward_terms["cost_gait"][walks].min() > -0.25
    assert (steps[walks] >= 1).all()


def test_a_gait_is_no_distance_from_itself():
    x, gait = np.array([[0.13121651, -0.26243302, -0.66095102, 0.30043977]]), np.array([0.131])
    assert distance_to_gait(x, gait)[0] == 0.0
    assert distance_to_gait(x + np.array([[0.0, 0.1, 0.0, 0.0]]), gait)[0] == pytest.approx(0.05)


def test_settings_are_checked():
    with pytest.raises(UserError, match=r"gait_spread must be 0 or more, got -0.1"):
        make_task(ID, gait_spread=-0.1)
