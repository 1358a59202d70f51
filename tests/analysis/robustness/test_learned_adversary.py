from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from rlstab.analysis.evaluation import evaluate
from rlstab.analysis.robustness.learned_adversary import (
    LearnedAdversary,
    ObservationAdversaryEnv,
    train_observation_adversary,
)
from rlstab.analysis.robustness.observation_attacks import AttackedPolicy, RandomUniform
from rlstab.envs.registry import make_vec
from rlstab.errors import UserError
from rlstab.learning.on_policy_config import OnPolicyConfig
from rlstab.policies.actor_critic import ActorCriticPolicy

S1 = "rlstab/LinearQuadratic-S1-v0"


class Regulator:
    """``u = -1.1 x``: numpy and nothing else, and a memory of how often it was asked in each episode."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> Any:
        before = np.zeros(len(observation)) if state is None else state
        self.asked = np.where(episode_start, 0, before) + 1
        return np.asarray(-1.1 * observation, np.float32), self.asked


def test_the_adversary_earns_what_the_policy_loses() -> None:
    env, twin = (make_vec(S1, 3, 0, max_episode_steps=4) for _ in range(2))
    world = ObservationAdversaryEnv(env, Regulator(), epsilon=0.5, scales=(2.0,))
    assert world.single_action_space == spaces.Box(-1.0, 1.0, (1,), np.float32)
    assert world.action_space.shape == (3, 1)
    observation, _ = world.reset(seed=5)
    expected, _ = twin.reset(seed=5)
    for step in range(6):
        np.testing.assert_array_equal(observation, expected)
        decided = np.array([[1.0], [-3.0], [0.25]])
        observation, reward, _, truncated, _ = world.step(decided)
        seen = expected + np.array([[1.0], [-1.0], [0.25]])
        expected, lost, _, _, _ = twin.step(np.asarray(-1.1 * seen, np.float32))
        np.testing.assert_allclose(reward, -lost)
        assert truncated.all() == (step == 3)
    np.testing.assert_array_equal(world._policy.asked, [2, 2, 2])
    world.close()
    twin.close()


def test_a_trained_adversary_does_more_than_chance_to_a_policy_without_a_gradient() -> None:
    policy = Regulator()
    seen: list[int] = []
    attack = train_observation_adversary(
        policy,
        S1,
        epsilon=0.3,
        steps=16_384,
        config=OnPolicyConfig(
            n_steps=64, batch_size=128, n_epochs=5, learning_rate=2e-3, gamma=0.9, hidden_sizes=(16,)
        ),
        on_iteration=lambda steps, metrics: seen.append(steps),
    )
    assert seen[-1] == 16_384

    def cost(attack: Any) -> float:
        return -float(evaluate(AttackedPolicy(policy, attack), S1, episodes=16).returns.mean())

    learned, chance = cost(attack), cost(RandomUniform(epsilon=0.3))
    assert learned > 1.5 * chance


def test_training_is_repeated_by_its_seed() -> None:
    config = OnPolicyConfig(n_steps=16, batch_size=64, hidden_sizes=(8,))
    found = [
        train_observation_adversary(Regulator(), S1, epsilon=0.3, steps=512, config=config, seed=1) for _ in range(2)
    ]
    actions = [attack.adversary.predict(np.ones((4, 1)), deterministic=True)[0] for attack in found]
    np.testing.assert_array_equal(actions[0], actions[1])


def test_what_does_not_fit_is_refused_in_a_line() -> None:
    adversary = ActorCriticPolicy(spaces.Box(-1.0, 1.0, (2,)), spaces.Box(-1.0, 1.0, (2,)))
    with pytest.raises(UserError, match="the adversary was made for"):
        AttackedPolicy(Regulator(), LearnedAdversary(epsilon=0.1, adversary=adversary))
    env = make_vec("InvertedPendulum-v5", 1, 0)
    with pytest.raises(UserError, match="the policy is made for observations"):
        ObservationAdversaryEnv(env, Regulator(), 0.1)
    env.close()
    unused = ObservationAdversaryEnv(make_vec(S1, 1, 0), Regulator(), 0.1)
    with pytest.raises(UserError, match="reset the environment"):
        unused.step(np.zeros((1, 1)))
    unused.close()
