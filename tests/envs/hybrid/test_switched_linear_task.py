"""The switched pair as an environment: lost without a controller, held by a simple one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlstab.envs.registry import make_task, make_vec
from rlstab.errors import UserError

ID = "rlstab/SwitchedLinear-v0"


def test_without_control_it_is_lost_unless_the_modes_are_exchanged():
    for stable in (False, True):
        env: Any = make_vec(ID, 8, env_kwargs={"stable": stable})
        env.reset(seed=0)
        lost = np.zeros(8, bool)
        for _ in range(499):
            observation, _, terminated, _, _ = env.step(np.zeros((8, 2)))
            lost |= terminated
        assert lost.all() == (not stable)
        assert lost.any() == (not stable)
        if stable:
            assert np.abs(observation).max() < 1e-3


def test_a_proportional_controller_holds_it_and_is_charged():
    env: Any = make_vec(ID, 4, seed=1)
    x, _ = env.reset()
    for _ in range(300):
        action = (-6.0 * x).astype(np.float32)
        after, reward, terminated, _, _ = env.step(action)
        expected = -(x**2).sum(1) - 0.01 * (action.astype(np.float64) ** 2).sum(1)
        np.testing.assert_allclose(reward, expected, rtol=1e-12)
        assert not terminated.any()
        x = after
    assert np.abs(x).max() < 1e-2


def test_settings_are_checked():
    with pytest.raises(UserError, match="max_push must be positive, got 0"):
        make_task(ID, max_push=0.0)
