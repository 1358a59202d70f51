from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from rlstab.envs.registry import make_vec
from rlstab.errors import UserError
from rlstab.sim2real.backends.environment import EnvironmentRobot
from rlstab.sim2real.contract import Contract, Training
from rlstab.sim2real.layout import layout_of


def contract_of(env: Any) -> Contract:
    return Contract(layout_of(env), "feedforward", Training("any"))


@pytest.fixture
def env() -> Any:
    env = make_vec("InvertedPendulum-v5", max_episode_steps=3)
    yield env
    env.close()


def test_reading_and_writing_in_turn_is_stepping(env: Any, clock: Any) -> None:
    robot = EnvironmentRobot(env, seed=5, clock=clock)
    robot.connect(contract_of(env))
    other = make_vec("InvertedPendulum-v5", max_episode_steps=3)
    observations, _ = other.reset(seed=5)
    reading = robot.read()
    np.testing.assert_array_equal(reading.observation, observations[0])
    np.testing.assert_array_equal(np.concatenate([reading.qpos, reading.qvel]), reading.observation)
    assert (reading.reward, reading.ended) == (None, None)
    action = np.array([0.7], np.float32)
    for expected_end in (None, None, "truncated"):
        robot.write(action)
        reading = robot.read()
        observations, rewards, _, _, infos = other.step(action[None])
        expected = infos["final_obs"] if expected_end else observations
        np.testing.assert_array_equal(reading.observation, expected[0])
        assert (reading.reward, reading.ended) == (rewards[0], expected_end)
    other.close()


def test_readings_are_stamped_with_the_clock_and_keep_their_values(env: Any, clock: Any) -> None:
    robot = EnvironmentRobot(env, seed=0, clock=clock)
    robot.connect(contract_of(env))
    first = robot.read()
    before = (first.observation.copy(), first.qpos.copy())
    clock.time += 5.0
    robot.write(np.array([3.0]))
    assert robot.read().time - first.time == pytest.approx(5.0, abs=1e-4)
    np.testing.assert_array_equal(first.observation, before[0])
    np.testing.assert_array_equal(first.qpos, before[1])


def test_a_period_without_a_command_is_refused(env: Any) -> None:
    robot = EnvironmentRobot(env, seed=0)
    with pytest.raises(UserError, match="connect, then read and write"):
        robot.read()
    robot.connect(contract_of(env))
    robot.read()
    with pytest.raises(UserError, match="no command"):
        robot.read()


def test_an_environment_that_does_not_fit_is_refused(env: Any) -> None:
    wanted = gymnasium.make("Hopper-v5")
    with pytest.raises(UserError, match=r"joint 0 is 'slider', the controller was exported for 'rootx'"):
        EnvironmentRobot(env, seed=0).connect(contract_of(wanted))
    wanted.close()


def test_a_robot_is_one_world() -> None:
    env = make_vec("InvertedPendulum-v5", num_envs=2)
    with pytest.raises(UserError, match="this environment has 2"):
        EnvironmentRobot(env, seed=0)
    env.close()
