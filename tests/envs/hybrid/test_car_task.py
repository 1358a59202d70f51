"""The car as an environment: rewards, ends and observations of its definition, and a regulator that tracks."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from rlstab.envs.hybrid.car_lqr import car_lqr
from rlstab.envs.registry import make_task, make_vec
from rlstab.errors import UserError

ID = "rlstab/CarTracking-v0"


@functools.cache
def _gain(friction: float, speed: float) -> np.ndarray:
    return car_lqr(friction, speed).gain


def _regulate(x: np.ndarray) -> np.ndarray:
    gains = np.array([_gain(row[9], row[7]) for row in x])
    return -np.einsum("nij,nj->ni", gains, x[:, :7])


def test_rewards_and_ends_are_those_of_the_definition():
    env: Any = make_vec(ID, 16, seed=3)
    x, _ = env.reset()
    assert x.shape == (16, 16)
    assert np.abs(x[:, :7]).max() <= 1.5
    assert set(np.unique(x[:, [9, 15]])) == {0.1, 1.0}
    ended: list[str] = []
    for _ in range(500):
        x, reward, terminated, truncated, infos = env.step(env.action_space.sample())
        done = terminated | truncated
        last = np.where(done[:, None], infos["final_obs"], x) if infos else x
        error = np.linalg.norm(last[:, :7], axis=1)
        np.testing.assert_allclose(reward, (np.abs(last[:, 1]) <= 3.0) - error, rtol=1e-12)
        ended += ["aside" if abs(last[row, 1]) > 3.0 else "arrived" for row in np.flatnonzero(terminated)]
    assert {"aside"} <= set(ended)


def test_a_regulator_follows_slow_references_to_the_end():
    env: Any = make_vec(ID, 8, seed=0, env_kwargs={"slowest": 3.0, "fastest": 6.0, "start_range": 0.3})
    x, _ = env.reset()
    changes = np.zeros(8, int)
    for _ in range(900):
        distance = x[:, 11].copy()
        x, _, terminated, _, infos = env.step(_regulate(x).astype(np.float32))
        changes += x[:, 11] > distance + 1.0
        if infos:
            assert (np.abs(infos["final_obs"][terminated, 1]) <= 3.0).all()
    assert changes.min() >= 2


def test_settings_are_checked():
    with pytest.raises(UserError, match=r"fastest must be at least slowest, got 2.0 and 3.0"):
        make_task(ID, fastest=2.0)
    with pytest.raises(UserError, match="start_range must be 0 or more and below slowest"):
        make_task(ID, start_range=4.0)
    with pytest.raises(UserError, match="max_control must be positive"):
        make_task(ID, max_control=-1.0)
