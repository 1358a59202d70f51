"""Native worlds against gymnasium's environments: same start and same actions, then both run free."""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest

from rlstab.envs.batch_env import BatchEnv
from rlstab.envs.physics.interface import FloatArray
from rlstab.envs.registry import make_task, native_ids

STEPS = 400
WALKERS = ("Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "Ant-v5", "Humanoid-v5")


class Reference:
    """A gymnasium environment, time limit included, that can be put where a native world is."""

    def __init__(self, id: str, max_episode_steps: int | None, arguments: dict[str, Any]) -> None:
        self.env = gymnasium.make(id, max_episode_steps, disable_env_checker=True, **arguments)
        self.inner: Any = self.env.unwrapped
        self.touched = False

    def start_at(self, qpos: FloatArray, qvel: FloatArray) -> FloatArray:
        """Begin an episode; the solver's warm start and all forces are those of a fresh reset."""
        self.env.reset()
        mujoco.mj_resetData(self.inner.model, self.inner.data)
        self.inner.set_state(qpos, qvel)
        return self.inner._get_obs()

    def step(self, action: FloatArray) -> tuple[FloatArray, float, bool, bool]:
        observation, reward, terminated, truncated, _ = self.env.step(action)
        self.touched |= self.inner.data.ncon > 0
        return observation, float(reward), terminated, truncated


def start_references(batch: BatchEnv, references: list[Reference], observation: FloatArray, worlds: Any) -> None:
    for world in worlds:
        started = references[world].start_at(batch.physics.qpos[world].copy(), batch.physics.qvel[world].copy())
        np.testing.assert_allclose(observation[world], started, rtol=1e-6, atol=1e-6)


def assert_parity(
    id: str, num_envs: int, *, steps: int, limit: int | None, arguments: dict[str, Any] | None = None
) -> list[Reference]:
    """Step both and compare everything; return the references, for what they saw."""
    arguments = arguments or {}
    batch = BatchEnv(make_task(id, **arguments), num_envs, seed=5, max_episode_steps=limit, num_threads=2)
    references = [Reference(id, limit, arguments) for _ in range(num_envs)]
    rng = np.random.default_rng(11)
    low, high = batch.model.actuator_ctrlrange.T
    observation, _ = batch.reset(seed=5)
    start_references(batch, references, observation, range(num_envs))
    ended = 0
    for step in range(steps):
        actions = rng.uniform(low, high, (num_envs, batch.model.nu)).astype(np.float32)
        observation, reward, terminated, truncated, infos = batch.step(actions)
        done = terminated | truncated
        final = infos["final_obs"] if done.any() else observation
        if done.any():
            np.testing.assert_array_equal(infos["_final_obs"], done)
        for world, reference in enumerate(references):
            expected, expected_reward, *expected_flags = reference.step(actions[world])
            where = f"{id}, world {world}, step {step}"
            np.testing.assert_allclose(final[world], expected, rtol=1e-6, atol=1e-6, err_msg=where)
            np.testing.assert_allclose(reward[world], expected_reward, rtol=1e-6, atol=1e-6, err_msg=where)
            assert [terminated[world], truncated[world]] == expected_flags, where
        start_references(batch, references, observation, np.flatnonzero(done))
        ended += done.sum()
    batch.close()
    assert ended >= num_envs
    return references


@pytest.mark.parametrize("num_envs", [1, 5])
@pytest.mark.parametrize("id", native_ids())
def test_native_worlds_equal_gymnasiums(id: str, num_envs: int) -> None:
    # Reacher runs to its own limit of 50; the others are cut short, so that every task sees truncation or a fall.
    references = assert_parity(id, num_envs, steps=STEPS, limit=None if id == "Reacher-v5" else 90)
    if id in WALKERS:
        assert all(reference.touched for reference in references)


@pytest.mark.parametrize("id", ["Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5"])
def test_fallen_robots_equal_gymnasiums(id: str) -> None:
    """Hundreds of steps of scrambling on the ground, with other constants than the default ones."""
    arguments = {
        "terminate_when_unhealthy": False,
        "exclude_current_positions_from_observation": False,
        "forward_reward_weight": 2.0,
        "ctrl_cost_weight": 0.05,
        "reset_noise_scale": 0.02,
    }
    references = assert_parity(id, 2, steps=300, limit=150, arguments=arguments)
    assert all(reference.touched for reference in references)


@pytest.mark.parametrize("id", ["HalfCheetah-v5", "Ant-v5", "Humanoid-v5"])
def test_resetting_some_worlds_keeps_parity(id: str) -> None:
    """A world that is reset by mask is rewarded for motion from its new start; the others notice nothing."""
    batch = BatchEnv(make_task(id), 3, seed=2)
    low, high = batch.model.actuator_ctrlrange.T
    references = [Reference(id, None, {}) for _ in range(3)]
    observation, _ = batch.reset()
    start_references(batch, references, observation, range(3))
    rng = np.random.default_rng(1)
    for step in range(12):
        if step in (4, 8):
            observation, _ = batch.reset(options={"worlds": np.array([False, True, False])})
            start_references(batch, references, observation, [1])
        actions = 0.2 * rng.uniform(low, high, (3, batch.model.nu))
        observation, reward, terminated, _, _ = batch.step(actions)
        for world, reference in enumerate(references):
            expected, expected_reward, *_ = reference.step(actions[world])
            np.testing.assert_allclose(observation[world], expected, rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(reward[world], expected_reward, rtol=1e-6, atol=1e-6)
        assert not terminated.any()
    batch.close()
