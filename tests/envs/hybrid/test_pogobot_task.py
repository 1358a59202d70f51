"""The hopper as an environment: rewards and ends of its definition, and deadbeat hops through level corridors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlstab.envs.hybrid.corridor import flat
from rlstab.envs.hybrid.pogobot import hop
from rlstab.envs.registry import make_task, make_vec
from rlstab.errors import UserError

ID = "rlstab/Pogobot-v0"


def test_rewards_and_ends_are_those_of_the_definition():
    env: Any = make_vec(ID, 8, seed=3)
    x, _ = env.reset()
    assert x.shape == (8, 15)
    np.testing.assert_allclose(x[:, 1], x[:, 10] + 0.5)
    np.testing.assert_allclose(x[:, 2] - x[:, 5], 1.0)
    ends = 0
    rng = np.random.default_rng(0)
    for _ in range(12):
        action = np.stack([rng.uniform(0.0, 0.4, 8), rng.uniform(-0.2, 0.2, 8)], -1)
        x, reward, terminated, truncated, infos = env.step(action)
        last = np.where((terminated | truncated)[:, None], infos["final_obs"], x) if infos else x
        terms = env.reward_terms
        np.testing.assert_allclose(terms["cost_speed"], -np.abs(last[:, 1] - last[:, 10]), rtol=1e-12)
        np.testing.assert_allclose(reward, sum(terms.values()), rtol=1e-12)
        assert (terminated | (terms["cost_hit"] == 0.0)).all()
        ends += int(terminated.sum())
    assert ends > 4


def test_an_action_is_a_share_of_the_largest_angle_and_force():
    env: Any = make_vec(ID, 2, seed=0)
    x, _ = env.reset()
    action = np.array([[0.2, 0.1], [0.3, -0.1]], np.float32)
    after, *_ = env.step(action)
    decided = action.astype(np.float64) * [0.5, 5000.0]
    # The first segment is level and long.
    alone = hop(x[:, 0], x[:, 1], x[:, 2], *decided.T, flat(2))
    np.testing.assert_allclose(after[:, 1], alone.xdot, rtol=1e-12)
    np.testing.assert_allclose(after[:, 2], alone.y, rtol=1e-12)


def test_a_deadbeat_controller_passes_a_level_corridor():
    env: Any = make_vec(ID, 1, seed=0)
    for seed in range(40):
        x, _ = env.reset(seed=seed)
        if np.array_equal(env.physics.qpos[0, 12:16][1:], env.physics.qpos[0, 20:24][1:]):
            break
    way = 0.0
    for _ in range(60):
        target = np.array([x[0, 10], min(max(x[0, 8] + 1.4, 0.6 * x[0, 9] + 0.4 * x[0, 8]), x[0, 9]) - x[0, 8]])
        decision = np.array([0.06 * x[0, 1], 0.0])
        for _ in range(2):
            trials = decision + np.array([[0.0, 0.0], [1e-4, 0.0], [0.0, 1.0]])
            taken = hop(*np.tile(x[:, :3], (3, 1)).T, *trials.T, flat(3))
            found = np.stack([taken.xdot, taken.y], -1)
            slope = ((found[1:] - found[0]) / np.array([[1e-4], [1.0]])).T
            decision = decision - np.linalg.solve(slope, found[0] - target)
            decision = np.clip(decision, [-0.5, -5000.0], [0.5, 5000.0])
        x, _, terminated, _, _ = env.step((decision / [0.5, 5000.0])[None].astype(np.float32))
        assert env.reward_terms["cost_hit"][0] == 0.0
        way = max(way, env.reward_terms["way"][0])
        if terminated[0]:
            break
    assert terminated[0]
    assert way > 15.0


def test_settings_are_checked():
    with pytest.raises(UserError, match="largest_angle must be between 0 and pi/2, got 2"):
        make_task(ID, largest_angle=2.0)
    with pytest.raises(UserError, match="largest_force must be positive, got 0"):
        make_task(ID, largest_force=0.0)
