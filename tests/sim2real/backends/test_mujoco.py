from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlstab.envs.registry import make_vec
from rlstab.errors import UserError
from rlstab.sim2real.backends.mujoco import MujocoRobot
from rlstab.sim2real.contract import Contract, Training
from rlstab.sim2real.layout import layout_of


@pytest.fixture
def reference() -> Any:
    env = make_vec("Hopper-v5", num_envs=4)
    yield env
    env.close()


def test_an_episode_starts_as_the_same_world_of_a_batch(reference: Any) -> None:
    contract = Contract(layout_of(reference), "feedforward", Training("Hopper-v5"))
    observations, _ = reference.reset(seed=11)
    for episode in range(4):
        robot = MujocoRobot("Hopper-v5", seed=11, episode=episode)
        robot.connect(contract)
        np.testing.assert_array_equal(robot.read().observation, observations[episode])
        robot.close()
        robot.close()


def test_what_is_not_native_is_refused() -> None:
    with pytest.raises(UserError, match="no native environment 'CartPole-v1'"):
        MujocoRobot("CartPole-v1")
