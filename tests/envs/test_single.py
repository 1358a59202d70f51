from __future__ import annotations

import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rlstab.envs.disturbance import parse
from rlstab.envs.registry import make_vec, native_ids
from rlstab.envs.single import SingleEnv
from rlstab.errors import UserError


@pytest.mark.parametrize("name", native_ids())
def test_gymnasium_makes_every_native_task_with_its_time_limit(name):
    env = gymnasium.make(f"rlstab/{name}")
    assert env.spec is not None
    assert env.spec.max_episode_steps == gymnasium.spec(name).max_episode_steps
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    env.close()


@pytest.mark.filterwarnings("ignore:.*Box observation space.*:UserWarning")
def test_gymnasiums_checker_is_content():
    check_env(SingleEnv("Hopper-v5"), skip_render_check=True)


def test_it_runs_like_world_0_of_a_batch():
    single: Any = gymnasium.make("rlstab/Hopper-v5")
    batch = make_vec("Hopper-v5", 1, seed=3)
    rng = np.random.default_rng(0)
    seen, _ = single.reset(seed=3)
    np.testing.assert_array_equal(seen, batch.reset()[0][0])
    for _ in range(150):
        action = rng.uniform(-1, 1, 3).astype(np.float32)
        observation, reward, terminated, truncated, _ = single.step(action)
        batched = batch.step(action[None])
        assert (reward, terminated, truncated) == (batched[1][0], batched[2][0], batched[3][0])
        if terminated:
            np.testing.assert_array_equal(observation, batched[4]["final_obs"][0])
            observation, _ = single.reset()
        np.testing.assert_array_equal(observation, batched[0][0])


def test_an_ended_episode_stays_at_its_end_until_it_is_reset():
    env = SingleEnv("Hopper-v5")
    env.reset(seed=0)
    observation, _, terminated, _, _ = env.step(np.ones(3))
    while not terminated:
        observation, _, terminated, _, _ = env.step(np.ones(3))
    np.testing.assert_array_equal(env.batch.physics.qpos[0, 1:], observation[:5])


def test_time_limits_come_from_gymnasium():
    env = gymnasium.make("rlstab/HalfCheetah-v5", max_episode_steps=3)
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[3] for _ in range(3)]
    assert ends == [False, False, True]
    longer = gymnasium.make("rlstab/HalfCheetah-v5", max_episode_steps=1200)
    longer.reset(seed=0)
    assert not any(longer.step(np.zeros(6))[3] for _ in range(1100))


def test_without_a_seed_episodes_differ():
    first, second = (SingleEnv("Hopper-v5").reset()[0] for _ in range(2))
    assert not np.array_equal(first, second)


def test_settings_and_disturbances_pass_through_make():
    env: Any = gymnasium.make("rlstab/Hopper-v5", forward_reward_weight=2.0, disturbances=parse("mass=2"))
    env.reset(seed=0)
    assert env.unwrapped.batch.task.forward_reward_weight == 2.0
    assert env.unwrapped.batch.physics.world_model(0).body_mass[1] == pytest.approx(
        2 * env.unwrapped.model.body_mass[1]
    )


def test_make_vec_gives_the_native_batch():
    env: Any = gymnasium.make_vec("rlstab/Hopper-v5", num_envs=3, seed=4, max_episode_steps=2)
    np.testing.assert_array_equal(env.reset()[0], make_vec("Hopper-v5", 3, seed=4).reset()[0])
    env.step(env.action_space.sample())
    assert env.step(env.action_space.sample())[3].all()
    reacher: Any = gymnasium.make_vec("rlstab/Reacher-v5", num_envs=2)
    assert reacher.max_episode_steps == 50


def test_make_vec_can_also_copy_single_environments():
    env = gymnasium.make_vec("rlstab/Hopper-v5", num_envs=2, vectorization_mode="sync")
    assert env.reset(seed=0)[0].shape == (2, 11)


def test_unknown_settings_and_render_modes_are_refused():
    with pytest.raises(UserError, match="no setting wind"):
        SingleEnv("Hopper-v5", wind=3)
    with pytest.raises(UserError, match="rgb_array"):
        SingleEnv("Hopper-v5", "human")


def test_it_draws():
    from rlstab.envs.rendering import choose_backend

    try:
        choose_backend()
    except UserError as error:
        pytest.skip(str(error))
    env = gymnasium.make("rlstab/Hopper-v5", render_mode="rgb_array", width=64, height=48)
    env.reset(seed=0)
    frame: Any = env.render()
    assert frame.shape == (48, 64, 3)
    assert env.metadata["render_fps"] == 125
    assert SingleEnv("Hopper-v5").render() is None
    env.close()


def test_the_module_prefix_registers_without_an_import():
    code = "import gymnasium\nprint(gymnasium.make('rlstab.envs:rlstab/Hopper-v5').observation_space.shape)\n"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert outcome.stdout.strip() == "(11,)", outcome.stderr
