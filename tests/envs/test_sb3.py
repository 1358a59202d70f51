from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rlstab.envs.registry import make_vec
from rlstab.envs.sb3 import SB3VecEnv
from rlstab.errors import UserError
from rlstab.runs.seeding import derive_seed


def small() -> dict[str, Any]:
    """Settings of a quick learner; SB3 writes into the policy's."""
    return {"policy_kwargs": {"net_arch": [8]}, "device": "cpu", "seed": 0}


def hopper(num_envs: int = 3, **settings: Any) -> tuple[Any, Any]:
    """The same worlds twice: behind SB3's interface and behind gymnasium's."""
    batches = [make_vec("Hopper-v5", num_envs, seed=5, num_threads=1, **settings) for _ in range(2)]
    return SB3VecEnv(batches[0]), batches[1]


def test_it_gives_what_the_batch_gives():
    adapted, batch = hopper(max_episode_steps=20)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(adapted.reset(), batch.reset()[0])
    ended_by = {"time": 0, "fall": 0}
    returns, lengths = np.zeros(3), np.zeros(3, int)
    for _ in range(120):
        action = rng.uniform(-1, 1, (3, 3)).astype(np.float32)
        observation, reward, done, infos = adapted.step(action)
        expected, expected_reward, terminated, truncated, batch_infos = batch.step(action)
        np.testing.assert_array_equal(observation, expected)
        np.testing.assert_array_equal(reward, expected_reward.astype(np.float32))
        np.testing.assert_array_equal(done, terminated | truncated)
        returns += expected_reward
        lengths += 1
        for world in range(3):
            if not done[world]:
                assert "terminal_observation" not in infos[world]
                continue
            np.testing.assert_array_equal(infos[world]["terminal_observation"], batch_infos["final_obs"][world])
            assert infos[world]["TimeLimit.truncated"] == (truncated[world] and not terminated[world])
            assert infos[world]["episode"]["r"] == pytest.approx(returns[world])
            assert infos[world]["episode"]["l"] == lengths[world]
            ended_by["time" if infos[world]["TimeLimit.truncated"] else "fall"] += 1
            returns[world] = lengths[world] = 0
    assert ended_by["time"]
    assert ended_by["fall"]


def test_it_agrees_with_sb3s_own_adapter_on_foreign_environments():
    adapted = SB3VecEnv(make_vec("CartPole-v1", 1, max_episode_steps=15))
    own = DummyVecEnv([lambda: gymnasium.make("CartPole-v1", max_episode_steps=15)])
    adapted.seed(3)
    own.seed(derive_seed(3, "world", 0))
    np.testing.assert_array_equal(adapted.reset(), own.reset())
    for step in range(60):
        action = np.array([step // 3 % 2])
        observation, reward, done, infos = adapted.step(action)
        expected, expected_reward, expected_done, expected_infos = own.step(action)
        np.testing.assert_array_equal(observation, expected)
        np.testing.assert_array_equal(reward, expected_reward)
        np.testing.assert_array_equal(done, expected_done)
        if done[0]:
            for key in ("terminal_observation", "TimeLimit.truncated"):
                np.testing.assert_array_equal(infos[0][key], expected_infos[0][key])  # type: ignore[literal-required]


def test_seeds_repeat():
    adapted, _ = hopper()
    assert adapted.seed(9) == [9, 9, 9]
    first = adapted.reset()
    assert not np.array_equal(first, adapted.reset())
    adapted.seed(9)
    np.testing.assert_array_equal(adapted.reset(), first)


class SeenInfos(BaseCallback):
    def __init__(self) -> None:
        super().__init__()
        self.episodes = 0

    def _on_step(self) -> bool:
        self.episodes += sum("episode" in info for info in self.locals["infos"])
        return True


def test_ppo_learns_on_it_and_counts_episodes():
    adapted, _ = hopper(4)
    model = PPO("MlpPolicy", adapted, n_steps=32, batch_size=32, n_epochs=1, **small())
    seen = SeenInfos()
    model.learn(256, callback=seen)
    assert seen.episodes > 0
    assert model.ep_info_buffer is not None
    assert len(model.ep_info_buffer) == seen.episodes


def test_sac_stores_the_true_next_observation():
    adapted, _ = hopper(2, max_episode_steps=6)
    model = SAC("MlpPolicy", adapted, learning_starts=20, batch_size=16, train_freq=4, buffer_size=200, **small())
    model.learn(80)
    buffer: Any = model.replay_buffer
    time_limits = buffer.timeouts[: buffer.pos].astype(bool)
    assert time_limits.any()
    # What follows the last step of an episode is not the first observation of the next one.
    steps, worlds = np.nonzero(time_limits[:-1])
    assert not np.any(np.all(buffer.next_observations[steps, worlds] == buffer.observations[steps + 1, worlds], axis=1))


def test_dqn_runs_on_a_foreign_environment():
    model = DQN("MlpPolicy", make_vec("CartPole-v1", 2).to_sb3(), learning_starts=10, buffer_size=100, **small())  # type: ignore[attr-defined]
    model.learn(60)


def test_evaluate_policy_trusts_its_episodes():
    adapted, _ = hopper(2, max_episode_steps=10)
    model = PPO("MlpPolicy", adapted, n_steps=8, batch_size=16, **small())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        returns, lengths = evaluate_policy(model, adapted, n_eval_episodes=4, return_episode_rewards=True)
    assert len(returns) == 4  # type: ignore[arg-type]
    assert max(lengths) <= 10  # type: ignore[arg-type]


def test_sb3s_normalisation_wraps_it():
    adapted, _ = hopper(2, max_episode_steps=5)
    wrapped = VecNormalize(adapted)
    wrapped.reset()
    for _ in range(6):
        observation, *_ = wrapped.step(np.zeros((2, 3), np.float32))
    assert np.all(np.isfinite(observation))  # type: ignore[call-overload]


def test_attributes_and_methods_of_a_batch():
    adapted, _ = hopper(3)
    assert adapted.get_attr("dt") == [0.008] * 3
    assert adapted.get_attr("dt", indices=[1]) == [0.008]
    assert adapted.has_attr("dt")
    assert not adapted.has_attr("no_such_thing")
    adapted.set_attr("max_episode_steps", 7)
    assert adapted.env.max_episode_steps == 7
    with pytest.raises(UserError, match="whole batch"):
        adapted.set_attr("max_episode_steps", 8, indices=[0])
    adapted.reset()
    state = adapted.env_method("state_dict")
    assert len(state) == 3


def test_attributes_and_methods_of_foreign_environments():
    adapted = make_vec("CartPole-v1", 3).to_sb3()  # type: ignore[attr-defined]
    adapted.set_attr("gravity", 5.0, indices=[1])
    assert adapted.get_attr("gravity") == [9.8, 5.0, 9.8]
    assert adapted.env_method("get_wrapper_attr", "gravity", indices=[1, 2]) == [5.0, 9.8]


def test_options_reach_the_worlds():
    adapted = make_vec("CartPole-v1", 2).to_sb3()  # type: ignore[attr-defined]
    adapted.set_options({"low": -1e-9, "high": 1e-9})
    assert np.abs(adapted.reset()).max() < 1e-8
    assert np.abs(adapted.reset()).max() > 1e-8
    adapted.set_options([{"low": 0.0}, {}])
    with pytest.raises(UserError, match="same reset options"):
        adapted.reset()


@pytest.mark.parametrize("name", ["worlds", "reset_mask"])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Hopper-v5"])
def test_a_choice_of_worlds_among_the_options_is_refused(env_id, name):
    adapted = make_vec(env_id, 2).to_sb3()  # type: ignore[attr-defined]
    adapted.reset()
    adapted.set_options({name: [True, False]})
    with pytest.raises(UserError, match="leave the choice of worlds out"):
        adapted.reset()


def test_a_batch_with_another_kind_of_reset_is_refused():
    with pytest.raises(UserError, match="make_vec"):
        SB3VecEnv(gymnasium.make_vec("CartPole-v1", 2))


def test_environments_need_no_torch():
    code = (
        "import sys, numpy as np, rlstab.envs.disturbance\n"
        "env = rlstab.envs.make_vec('Hopper-v5', 1, disturbances=rlstab.envs.disturbance.parse('gain=0.9'))\n"
        "env.reset(seed=0)\n"
        "rlstab.envs.make_vec('CartPole-v1', 1).reset(seed=0)\n"
        "raise SystemExit(any(name.split('.')[0] in ('torch', 'stable_baselines3') for name in sys.modules))\n"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (outcome.returncode, outcome.stderr) == (0, "")
